// SPDX-License-Identifier: Apache-2.0
#include "agent/base/channel.h"

#include <gtest/gtest.h>

#include <string>

namespace fairlead {
namespace {

struct Reading {
  using Key = std::string;
  std::string sensor;
  int value = 0;
  const std::string& key() const { return sensor; }
};

TEST(Channel, LatestOfAKeyWinsAndOrderIsOfFirstArrival) {
  auto [tx, rx] = make_channel<Reading>();
  tx.send({"a", 1});
  tx.send({"b", 2});
  tx.send({"a", 3});
  const auto got = rx.take();
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(got[0].sensor, "a");
  EXPECT_EQ(got[0].value, 3);
  EXPECT_EQ(got[1].value, 2);
}

TEST(Channel, ConsumerIsCalledOnceForABurstAndAgainForTheNext) {
  Loop loop;
  auto [tx, rx] = make_channel<Reading>();
  std::vector<std::size_t> batches;
  tx.send({"before attach", 1});
  rx.attach(loop, [&](std::vector<Reading> batch) { batches.push_back(batch.size()); });
  tx.send({"a", 1});
  tx.send({"b", 1});
  loop.poll();
  EXPECT_EQ(batches, std::vector<std::size_t>{3});
  tx.send({"c", 1});
  loop.poll();
  EXPECT_EQ(batches, (std::vector<std::size_t>{3, 1}));
}

TEST(Channel, NothingIsDeliveredAfterTheReceiverIsGone) {
  Loop loop;
  auto [tx, rx] = make_channel<Reading>();
  int calls = 0;
  {
    Receiver<Reading> owner = std::move(rx);
    owner.attach(loop, [&](std::vector<Reading>) { ++calls; });
    tx.send({"a", 1});
  }
  tx.send({"a", 2});
  loop.poll();
  EXPECT_EQ(calls, 0);
}

}  // namespace
}  // namespace fairlead
