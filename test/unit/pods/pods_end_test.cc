// SPDX-License-Identifier: Apache-2.0
// How a pod ends: in the maps first, then its containers, then all that is left of it.
#include "test/unit/pods/domain.h"

namespace fairlead::pods {
namespace {

class PodsEndTest : public PodsDomainTest {
 protected:
  PodsEndTest() { config.drain_delay = 5ms; }

  // The Service maps have all there is to have, and the drain delay is over.
  void let_it_go() {
    ASSERT_TRUE(until([&] { return row().terminating; }));
    settle();
    agent->apply(agent->revision);
    settle();
    clock.advance(config.drain_delay);
  }
};

TEST_F(PodsEndTest, TheMapsComeFirst) {
  run_pod();
  undesire();
  ASSERT_TRUE(until([&] { return row().terminating; }));
  settle();
  EXPECT_FALSE(row().ready);
  EXPECT_TRUE(row().serving);
  EXPECT_TRUE(runtime.stops.empty());

  agent->apply(agent->revision - 1);
  settle();
  clock.advance(1min);  // no delay counts before the maps have it
  settle();
  EXPECT_TRUE(runtime.stops.empty());

  agent->apply(agent->revision);
  settle();
  clock.advance(config.drain_delay - 1ms);
  settle();
  EXPECT_TRUE(runtime.stops.empty());
  clock.advance(1ms);
  ASSERT_TRUE(until([&] { return finished(); }));
  EXPECT_EQ(runtime.stops, (std::vector<std::pair<std::string, std::int64_t>>{{"c2", 7}}));
  EXPECT_EQ(agent->local_pods.get("u1"), nullptr);
  EXPECT_TRUE(runtime.sandboxes.empty());
  EXPECT_TRUE(runtime.containers.empty());
  EXPECT_FALSE(std::filesystem::exists(config.state_dir + "/pods/u1"));
  EXPECT_EQ(agent->drain_timeouts(), 0);
  // The last word of it: nothing more is told.
  ASSERT_TRUE(until([&] { return agent->events.back().reason.empty(); }));
  EXPECT_EQ(agent->events.back().involved.uid, "u1");
}

TEST_F(PodsEndTest, PatienceEnds) {
  config.drain_patience = 3ms;
  run_pod();
  undesire();
  ASSERT_TRUE(until([&] { return row().terminating; }));
  settle();
  EXPECT_EQ(agent->drain_timeouts(), 0);
  clock.advance(config.drain_patience);
  ASSERT_TRUE(until([&] { return agent->drain_timeouts() == 1; }));
  settle();
  EXPECT_TRUE(runtime.stops.empty());  // the delay is kept all the same
  clock.advance(config.drain_delay);
  EXPECT_TRUE(until([&] { return finished(); }));
  EXPECT_EQ(agent->drain_timeouts(), 1);
}

TEST_F(PodsEndTest, AGraceIsCutShortButNotDrawnOut) {
  run_pod();
  for (const std::int64_t grace : {5, 60, 3, 4}) {
    desire(make_pod(), grace);
    settle();
  }
  let_it_go();
  ASSERT_TRUE(until([&] { return !runtime.stops.empty(); }));
  EXPECT_EQ(runtime.stops.front().second, 3);
  EXPECT_TRUE(until([&] { return finished(); }));
}

TEST_F(PodsEndTest, ANamesakeWaits) {
  run_pod();
  desire(make_named_pod("p", "u2"));
  undesire();
  ASSERT_TRUE(until([&] { return row().terminating; }));
  settle();
  EXPECT_EQ(runtime.count("RunPodSandbox"), 1U);
  let_it_go();
  ASSERT_TRUE(until([&] { return ready("u2"); }));
  EXPECT_TRUE(finished());
  const auto removed = std::ranges::find(runtime.calls, "RemovePodSandbox");
  EXPECT_EQ(std::count(runtime.calls.begin(), removed, "RunPodSandbox"), 1);
}

TEST_F(PodsEndTest, APodThatIsWantedAgainIsMadeAnew) {
  run_pod();
  undesire();
  let_it_go();
  desire(make_pod());
  ASSERT_TRUE(until([&] { return ready() && runtime.count("RunPodSandbox") == 2; }));
  EXPECT_TRUE(until([&] { return !finished() && phase() == "Running"; }));
}

TEST_F(PodsEndTest, WhatAnEarlierAgentWasEndingIsMadeAnewWhereItIsWantedAgain) {
  run_pod();
  undesire();
  ASSERT_TRUE(until([&] { return row().terminating; }));
  desire(make_pod());
  start();
  ASSERT_TRUE(until([&] { return ready() && runtime.count("RunPodSandbox") == 2; }));
  EXPECT_EQ(runtime.stops.size(), 1U);
  EXPECT_EQ(runtime.sandboxes.size(), 1U);
}

TEST_F(PodsEndTest, APodThatIsNotWantedAfterAllStaysAway) {
  run_pod();
  undesire();
  ASSERT_TRUE(until([&] { return row().terminating; }));
  desire(make_pod());
  settle();
  undesire();
  let_it_go();
  ASSERT_TRUE(until([&] { return finished(); }));
  settle();
  EXPECT_EQ(runtime.count("RunPodSandbox"), 1U);
}

TEST_F(PodsEndTest, EndsUnderARainOfEvents) {
  runtime.tells_events = true;
  config.relist_with_events = 1ms;
  run_pod(make_pod("Always", {"web", "log"}));
  undesire();
  let_it_go();
  ASSERT_TRUE(until([&] { return finished(); }));
  settle();
  EXPECT_EQ(runtime.stops.size(), 2U);
  EXPECT_TRUE(runtime.sandboxes.empty());
}

// As containerd does with a task whose creation was cut off: it refuses until it is started again.
TEST_F(PodsEndTest, ARuntimeThatDoesNotRemoveAContainerHoldsUpNobody) {
  run_pod();
  runtime.errors["RemoveContainer"] = Error{Code::kConflict, "cannot delete running task c2"};
  runtime.errors["RemovePodSandbox"] = Error{Code::kConflict, "failed to remove container c2"};
  undesire();
  let_it_go();
  ASSERT_TRUE(until([&] { return runtime.count("RemoveContainer") == 1; }));
  settle();
  EXPECT_EQ(runtime.count("RemoveContainer"), 1U);  // not again at once
  EXPECT_FALSE(finished());
  desire(make_named_pod("p", "u2"));
  ASSERT_TRUE(until([&] {
    clock.advance(1s);
    return finished();
  }));
  EXPECT_LT(runtime.count("RemoveContainer"), 15U);
  ASSERT_TRUE(until([&] { return ready("u2"); }));
  EXPECT_EQ(runtime.sandboxes.size(), 2U);

  runtime.errors.clear();
  EXPECT_TRUE(until([&] {
    clock.advance(1s);
    return runtime.sandboxes.size() == 1;
  }));
  EXPECT_EQ(runtime.containers.size(), 1U);
  EXPECT_TRUE(ready("u2"));
}

TEST_F(PodsEndTest, WaitsForARuntimeThatIsAway) {
  run_pod();
  undesire();
  runtime.away = true;
  let_it_go();
  settle();
  EXPECT_FALSE(finished());
  EXPECT_TRUE(runtime.runs("web"));
  runtime.away = false;
  EXPECT_TRUE(until([&] {
    clock.advance(1s);  // a call that it did not take is made again after a while
    return finished();
  }));
}

}  // namespace
}  // namespace fairlead::pods
