// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/limit.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace fairlead::pods {
namespace {

TEST(Limit, LetsSoManyInAndTheRestInOrder) {
  Limit limit(2);
  std::vector<int> ran;
  for (int i = 0; i < 4; ++i) limit.enter([&ran, i] { ran.push_back(i); });
  EXPECT_EQ(ran, (std::vector{0, 1}));
  limit.leave();
  EXPECT_EQ(ran, (std::vector{0, 1, 2}));
  limit.leave();
  limit.leave();
  EXPECT_EQ(ran, (std::vector{0, 1, 2, 3}));
}

TEST(Limit, WhoTakesLongHoldsNobodyUp) {
  Loop loop;
  Limit limit(1);
  std::vector<std::unique_ptr<Place>> places;
  for (int i = 0; i < 2; ++i) {
    limit.enter([&] { places.push_back(std::make_unique<Place>(loop, limit, std::chrono::milliseconds(1))); });
  }
  EXPECT_EQ(places.size(), 1U);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (places.size() < 2 && std::chrono::steady_clock::now() < until) loop.poll();
  ASSERT_EQ(places.size(), 2U);
  places[0]->leave();  // and again: it counts once
  places[1]->leave();
  int more = 0;
  for (int i = 0; i < 2; ++i) limit.enter([&] { ++more; });
  EXPECT_EQ(more, 1);
}

TEST(Limit, WhoLeavesAtOnceLetsTheNextIn) {
  Limit limit(1);
  int ran = 0;
  for (int i = 0; i < 3; ++i) {
    limit.enter([&] {
      ++ran;
      limit.leave();
    });
  }
  EXPECT_EQ(ran, 3);
}

}  // namespace
}  // namespace fairlead::pods
