// SPDX-License-Identifier: Apache-2.0
#include "agent/base/worker_pool.h"

#include <gtest/gtest.h>

#include <latch>

namespace fairlead {
namespace {

TEST(WorkerPool, WorkRunsOffTheLoopAndAnswersOnIt) {
  Loop loop;
  WorkerPool pool(2);
  std::thread::id worker;
  std::thread::id answerer;
  pool.submit<int>(
      loop,
      [&]() -> Result<int> {
        worker = std::this_thread::get_id();
        return 42;
      },
      [&](Result<int> result) {
        answerer = std::this_thread::get_id();
        EXPECT_EQ(*result, 42);
        loop.stop();
      });
  loop.run();
  EXPECT_NE(worker, std::this_thread::get_id());
  EXPECT_EQ(answerer, std::this_thread::get_id());
}

TEST(WorkerPool, ThreadsWorkSideBySide) {
  Loop loop;
  WorkerPool pool(2);
  std::latch both(2);
  int done = 0;
  for (int i = 0; i < 2; ++i) {
    pool.submit<void>(
        loop,
        [&]() -> Result<> {
          both.arrive_and_wait();  // passes only if the other runs too
          return {};
        },
        [&](Result<> result) {
          EXPECT_TRUE(result);
          if (++done == 2) loop.stop();
        });
  }
  loop.run();
  EXPECT_EQ(done, 2);
}

TEST(WorkerPool, DestructionCancelsWhatWaitsAndFinishesWhatRuns) {
  Loop loop;
  std::vector<std::string> outcomes;
  std::latch running(1);
  std::latch release(1);
  auto pool = std::make_unique<WorkerPool>(1);
  pool->submit<void>(
      loop,
      [&]() -> Result<> {
        running.count_down();
        release.wait();
        return {};
      },
      [&](Result<> result) {
        outcomes.emplace_back(result ? "ran" : to_string(result.error().code));
        loop.stop();
      });
  pool->submit<void>(
      loop, []() -> Result<> { return {}; },
      [&](Result<> result) {
        outcomes.emplace_back(result ? "ran" : to_string(result.error().code));
        release.count_down();
      });
  running.wait();
  const std::jthread closer([&] { pool.reset(); });
  loop.run();
  EXPECT_EQ(outcomes, (std::vector<std::string>{"cancelled", "ran"}));
}

}  // namespace
}  // namespace fairlead
