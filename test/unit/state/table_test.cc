// SPDX-License-Identifier: Apache-2.0
#include "agent/state/table.h"

#include <gtest/gtest.h>

namespace fairlead::state {
namespace {

struct Row {
  std::string uid;
  int value = 0;
};

TEST(Table, ANewReaderSeesEveryRowThenOnlyChanges) {
  Table<Row> table({"api"});
  const auto writer = table.writer("api");
  writer.upsert("a", {"1", 1});
  auto reader = table.reader();
  auto delta = reader.take();
  ASSERT_EQ(delta.changes.size(), 1U);
  EXPECT_EQ(delta.changes[0].before, nullptr);
  EXPECT_FALSE(delta.complete);
  writer.upsert("b", {"2", 1});
  delta = reader.take();
  ASSERT_EQ(delta.changes.size(), 1U);
  EXPECT_EQ(delta.changes[0].key, "b");
}

TEST(Table, DeleteAndCreateBetweenTwoLooksKeepsBothUids) {
  Table<Row> table({});
  const auto writer = table.writer("api");
  writer.upsert("a", {"old", 1});
  auto reader = table.reader();
  reader.take();
  writer.erase("a");
  writer.upsert("a", {"new", 1});
  const auto delta = reader.take();
  ASSERT_EQ(delta.changes.size(), 1U);
  EXPECT_EQ(delta.changes[0].before->uid, "old");
  EXPECT_EQ(delta.changes[0].after->uid, "new");
}

TEST(Table, ADeleteReachesASlowReaderAndARowThatCameAndWentDoesNot) {
  Table<Row> table({});
  const auto writer = table.writer("api");
  writer.upsert("a", {"1", 1});
  auto reader = table.reader();
  reader.take();
  writer.erase("a");
  writer.upsert("b", {"2", 1});
  const Revision last = writer.erase("b");
  const auto delta = reader.take();
  ASSERT_EQ(delta.changes.size(), 1U);
  EXPECT_EQ(delta.changes[0].key, "a");
  EXPECT_EQ(delta.changes[0].after, nullptr);
  EXPECT_EQ(delta.revision, last);
}

TEST(Table, ReplaceErasesOnlyTheRowsOfItsSource) {
  Table<Row> table({"api", "local"});
  table.writer("local").upsert("mine", {"1", 1});
  const auto api = table.writer("api");
  api.upsert("stale", {"2", 1});
  api.replace({{"fresh", std::make_shared<const Row>(Row{"3", 1})}});
  EXPECT_EQ(table.get("stale"), nullptr);
  EXPECT_NE(table.get("mine"), nullptr);
  EXPECT_NE(table.get("fresh"), nullptr);
  EXPECT_EQ(table.missing(), std::vector<std::string>{"local"});
}

TEST(Table, AReaderIsWokenWhenTheLastSourceCompletesWithoutARow) {
  Loop loop;
  Table<Row> table({"api"});
  auto reader = table.reader();
  std::vector<bool> complete;
  reader.attach(loop, [&](Delta<Row> delta) { complete.push_back(delta.complete); });
  loop.poll();
  table.writer("api").set_complete();
  loop.poll();
  EXPECT_EQ(complete, (std::vector<bool>{false, true}));
}

}  // namespace
}  // namespace fairlead::state
