// SPDX-License-Identifier: Apache-2.0
#include "agent/base/reconciler.h"

#include <gtest/gtest.h>

namespace fairlead {
namespace {

using namespace std::chrono_literals;

TEST(Backoff, DoublesUpToItsLimit) {
  const Backoff backoff{.first = 100ms, .limit = 1s};
  EXPECT_EQ(backoff.delay(1), Duration(100ms));
  EXPECT_EQ(backoff.delay(3), Duration(400ms));
  EXPECT_EQ(backoff.delay(50), Duration(1s));
}

TEST(Reconciler, DoesNothingBeforeStartThenEachKeyOnceInOrder) {
  Loop loop;
  std::vector<std::string> done;
  int passes = 0;
  Reconciler reconciler(loop, "test",
                        {.reconcile = [&](const std::string& key) -> Result<> {
                           done.push_back(key);
                           return {};
                         },
                         .passed = [&] { ++passes; },
                         .audit = {}});
  reconciler.mark("b");
  reconciler.mark("a");
  reconciler.mark("b");
  loop.poll();
  EXPECT_TRUE(done.empty());
  EXPECT_FALSE(reconciler.synced());
  reconciler.start();
  loop.poll();
  EXPECT_EQ(done, (std::vector<std::string>{"b", "a"}));
  EXPECT_EQ(passes, 1);
  EXPECT_TRUE(reconciler.synced());
}

TEST(Reconciler, AFailedKeyIsRetriedAndAMarkForgetsItsBackoff) {
  Loop loop;
  int attempts = 0;
  Reconciler reconciler(loop, "test",
                        {.reconcile = [&](const std::string&) -> Result<> {
                           if (++attempts < 3) return fail(Code::kExhausted, "map is full");
                           return {};
                         },
                         .passed =
                             [&] {
                               if (attempts == 3) loop.stop();
                             },
                         .audit = {}},
                        Backoff{.first = 1ms, .limit = 1ms});
  reconciler.mark("a");
  reconciler.start();
  reconciler.flush();
  EXPECT_EQ(reconciler.failing().at("a").what, "map is full");
  reconciler.mark("a");
  reconciler.flush();
  EXPECT_EQ(attempts, 2);
  loop.run();
  EXPECT_EQ(attempts, 3);
  EXPECT_TRUE(reconciler.synced());
}

TEST(Reconciler, ALimitedPassLetsUrgentKeysPassTheQueue) {
  Loop loop;
  std::vector<std::string> done;
  int passes = 0;
  Reconciler reconciler(loop, "test",
                        {.reconcile = [&](const std::string& key) -> Result<> {
                           done.push_back(key);
                           if (done.size() == 1) loop.post([&] { reconciler.run_now({"c"}); });
                           return {};
                         },
                         .passed = [&] { ++passes; },
                         .audit = {}});
  reconciler.limit_pass(1);
  for (const char* key : {"a", "b", "c", "d"}) reconciler.mark(key);
  reconciler.start();
  while (!reconciler.synced()) loop.poll();
  EXPECT_EQ(done, (std::vector<std::string>{"a", "c", "b", "d"}));
  EXPECT_GE(passes, 4);
}

}  // namespace
}  // namespace fairlead
