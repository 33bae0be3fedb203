// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/allocators.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace fairlead::datapath {
namespace {

TEST(IdAllocator, GivesFreshIdsFirstAndFreedOnesRoundAfterRound) {
  IdAllocator ids(5, {});
  EXPECT_EQ(ids.take(), 1);  // 0 is nobody's
  EXPECT_EQ(ids.take(), 2);
  ids.put(2);
  ids.put(1);
  EXPECT_EQ(ids.take(), 3);
  EXPECT_EQ(ids.take(), 4);
  EXPECT_EQ(ids.take(), 1);
  EXPECT_EQ(ids.take(), 2);
  EXPECT_EQ(ids.take(), std::nullopt);
}

TEST(IdAllocator, GivesTheOneThatIsWantedOrTheNext) {
  IdAllocator ids(6, {});
  EXPECT_EQ(ids.take_near(4), 4);
  EXPECT_EQ(ids.take_near(4), 5);
  EXPECT_EQ(ids.take_near(4), 1);
  EXPECT_EQ(ids.take_near(0), 2);  // 0 is nobody's
  EXPECT_EQ(ids.take(), 3);
  EXPECT_EQ(ids.take_near(4), std::nullopt);
  ids.put(4);
  EXPECT_EQ(ids.take_near(2), 4);
}

TEST(IdAllocator, LeavesAdoptedIdsAlone) {
  const std::vector<std::uint32_t> used{2, 5};
  IdAllocator ids(7, used);
  std::vector<std::uint32_t> taken;
  while (const auto id = ids.take()) taken.push_back(*id);
  EXPECT_THAT(taken, testing::UnorderedElementsAre(1, 3, 4, 6));
}

TEST(RunAllocator, FitsBestAndJoinsNeighbours) {
  RunAllocator runs(10);
  EXPECT_EQ(runs.take(3), 0);
  EXPECT_EQ(runs.take(2), 3);
  EXPECT_EQ(runs.take(5), 5);
  EXPECT_EQ(runs.take(1), std::nullopt);
  EXPECT_EQ(runs.take(0), 0);  // an empty set needs no room
  runs.put(0, 3);
  runs.put(5, 5);
  EXPECT_EQ(runs.take(3), 0);  // the smaller hole
  runs.put(0, 3);
  runs.put(3, 2);
  EXPECT_EQ(runs.used(), 0);
  EXPECT_EQ(runs.take(10), 0);
}

TEST(RunAllocator, ReservesExactlyWhatIsFree) {
  RunAllocator runs(10);
  EXPECT_TRUE(runs.reserve(4, 3));
  EXPECT_FALSE(runs.reserve(6, 1));
  EXPECT_FALSE(runs.reserve(3, 2));
  EXPECT_FALSE(runs.reserve(8, 3));
  EXPECT_TRUE(runs.reserve(7, 3));
  EXPECT_TRUE(runs.reserve(0, 4));
  EXPECT_EQ(runs.take(1), std::nullopt);
  EXPECT_TRUE(runs.reserve(9, 0));
}

// Against a map of single elements, under random churn.
TEST(RunAllocator, NeverGivesAnElementTwice) {
  constexpr std::uint32_t kCapacity = 500;
  RunAllocator runs(kCapacity);
  std::vector<bool> taken(kCapacity, false);
  std::map<std::uint32_t, std::uint32_t> held;
  std::mt19937 random(7);
  for (int round = 0; round < 20'000; ++round) {
    if (!held.empty() && random() % 2 == 0) {
      const auto run = std::next(held.begin(), random() % held.size());
      runs.put(run->first, run->second);
      for (std::uint32_t i = 0; i < run->second; ++i) taken[run->first + i] = false;
      held.erase(run);
      continue;
    }
    const std::uint32_t count = random() % 30 + 1;
    const auto base = runs.take(count);
    if (!base) continue;
    ASSERT_LE(*base + count, kCapacity);
    for (std::uint32_t i = 0; i < count; ++i) {
      ASSERT_FALSE(taken[*base + i]) << "element " << *base + i << " in round " << round;
      taken[*base + i] = true;
    }
    held[*base] = count;
    ASSERT_EQ(runs.used(), std::ranges::count(taken, true));
  }
  for (const auto& [base, count] : held) runs.put(base, count);
  EXPECT_EQ(runs.take(kCapacity), 0);
}

}  // namespace
}  // namespace fairlead::datapath
