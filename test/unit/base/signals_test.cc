// SPDX-License-Identifier: Apache-2.0
#include "agent/base/signals.h"

#include <gtest/gtest.h>

#include <csignal>

namespace fairlead {
namespace {

TEST(StopSignals, ArriveOnTheLoop) {
  Loop loop;
  int seen = 0;
  auto signals = StopSignals::create(loop, [&](int number) {
    seen = number;
    loop.stop();
  });
  ASSERT_TRUE(signals);
  ::kill(::getpid(), SIGTERM);
  loop.run();
  EXPECT_EQ(seen, SIGTERM);
}

TEST(StopSignalsDeathTest, TheSecondEndsTheProcessWhateverTheLoopDoes) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        Loop loop;
        auto signals = StopSignals::create(loop, [](int) {
          ::raise(SIGINT);
          std::exit(7);  // not reached
        });
        ::raise(SIGTERM);
        loop.run();
      },
      testing::KilledBySignal(SIGINT), "");
}

}  // namespace
}  // namespace fairlead
