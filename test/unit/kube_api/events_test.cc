// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/events.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>

#include "test/unit/kube_api/scripted_server.h"

namespace fairlead::kube {
namespace {

using namespace std::chrono_literals;

TEST(EventBudget, ABurstThenOneEachFiveMinutes) {
  EventBudget budget;
  WallTime now = SystemClock().wall();
  for (int i = 0; i < 25; ++i) EXPECT_TRUE(budget.take(now)) << i;
  EXPECT_FALSE(budget.take(now));
  now += 299s;
  EXPECT_FALSE(budget.take(now));
  now += 1s;
  EXPECT_TRUE(budget.take(now));
  EXPECT_FALSE(budget.take(now));
  now += 15min;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(budget.take(now)) << i;
  EXPECT_FALSE(budget.take(now));
  EXPECT_FALSE(budget.full(now));
  EXPECT_TRUE(budget.full(now + 125min));
}

TEST(EventNote, RepeatsAreCountedOnTheirWay) {
  auto [sender, receiver] = make_channel<model::EventNote>();
  model::EventNote note;
  note.reason = "BackOff";
  note.at = WallTime(1s);
  sender.send(note);
  note.at = WallTime(2s);
  sender.send(note);
  note.reason = "Killing";
  sender.send(note);
  const auto notes = receiver.take();
  ASSERT_EQ(notes.size(), 2U);
  EXPECT_EQ(notes[0].count, 2U);
  EXPECT_EQ(notes[0].at, WallTime(2s));
  EXPECT_EQ(notes[1].count, 1U);
}

// A server that is away: what waits for it is bounded, and what is beyond the bound is counted.
TEST(EventWriter, WhatWaitsForAServerThatIsAwayIsBounded) {
  Loop loop;
  metrics::Registry registry;
  ClusterAccess access;
  access.server = "http://127.0.0.1:1";
  HttpClient http(loop, access);
  JsonApi api(http);
  auto [sender, receiver] = make_channel<model::EventNote>();
  EventWriter events(loop, api, std::move(receiver), "n1", registry);
  constexpr int kNotes = 1200;
  for (int i = 0; i < kNotes; ++i) {
    model::EventNote note;
    note.involved = {"default", fmt::format("p{}", i), fmt::format("uid-{}", i)};
    note.reason = "Started";
    note.at = SystemClock().wall();
    sender.send(note);
  }
  const auto dropped = [&] {
    double all = 0;
    for (const auto& family : registry.Collect()) {
      if (family.name != "fairlead_events_dropped_total") continue;
      for (const auto& metric : family.metric) all += metric.counter.value;
    }
    return all;
  };
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (dropped() < kNotes - 1000 && std::chrono::steady_clock::now() < deadline) loop.poll();
  EXPECT_EQ(events.pending() + static_cast<std::size_t>(dropped()), static_cast<std::size_t>(kNotes));
  EXPECT_LE(events.pending(), 1000U);
}

// A server that takes all, once it is let.
class EventWriterTest : public ::testing::Test {
 protected:
  Loop loop;
  metrics::Registry registry;
  std::atomic<bool> away = false;
  ScriptedServer server{
      [this](const std::string&) { return ScriptedAnswer{.status = away ? 500 : 201, .body = "{}"}; }};
  HttpClient http{loop, [this] {
                    ClusterAccess access;
                    access.server = server.url();
                    return access;
                  }()};
  JsonApi api{http};
  std::pair<Sender<model::EventNote>, Receiver<model::EventNote>> channel = make_channel<model::EventNote>();
  EventWriter writer{loop, api, std::move(channel.second), "n1", registry};

  // Without a reason: the object is gone.
  void note(const std::string& uid, const std::string& reason) {
    channel.first.send({.involved = {"default", "p", uid}, .reason = reason, .at = SystemClock().wall()});
  }
  bool until(const std::function<bool()>& holds) {
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (!holds() && std::chrono::steady_clock::now() < limit) loop.poll();
    return holds();
  }
};

TEST_F(EventWriterTest, WhatWasToldOfAnObjectIsForgottenWhenItIsGone) {
  for (const char* uid : {"u1", "u10", "u2"}) note(uid, "Started");
  note("u1", "Killing");
  ASSERT_TRUE(until([&] { return server.requests().size() == 4 && writer.pending() == 0; }));
  EXPECT_EQ(writer.remembered(), 4U);
  note("u1", "");
  EXPECT_TRUE(until([&] { return writer.remembered() == 2; }));
  note("u1", "");  // nothing is known of it
  note("u2", "");
  EXPECT_TRUE(until([&] { return writer.remembered() == 1; }));
  EXPECT_EQ(server.requests().size(), 4U);
}

TEST_F(EventWriterTest, WhatIsStillToBeToldOfAnObjectThatIsGoneIsTold) {
  away = true;
  note("u1", "Started");
  note("u1", "Killing");
  note("u1", "");
  ASSERT_TRUE(until([&] { return server.requests().size() >= 2; }));
  EXPECT_EQ(writer.remembered(), 2U);
  away = false;
  EXPECT_TRUE(until([&] { return writer.pending() == 0; }));
  EXPECT_EQ(writer.remembered(), 0U);
}

// A static pod has the same uid again when it is wanted again.
TEST_F(EventWriterTest, AnObjectThatIsBackIsAnotherOne) {
  note("u1", "Started");
  note("u1", "");
  note("u1", "Killing");
  ASSERT_TRUE(until([&] { return server.requests().size() == 2 && writer.pending() == 0; }));
  EXPECT_EQ(writer.remembered(), 1U);
}

}  // namespace
}  // namespace fairlead::kube
