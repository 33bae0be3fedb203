// SPDX-License-Identifier: Apache-2.0
// What the pods domain makes of what an earlier life of the agent left.
#include "agent/base/atomic_file.h"
#include "test/unit/pods/domain.h"

namespace fairlead::pods {
namespace {

class PodsAdoptionTest : public PodsDomainTest {
 protected:
  // Every row that a consumer saw in this life said ready, and there was one.
  bool always_ready() const {
    return !agent->rows.empty() && std::ranges::all_of(agent->rows, [](const auto& row) { return row && row->ready; });
  }
  std::string remembered() const { return read_file(config.state_dir + "/readiness.json").value_or(""); }
};

TEST_F(PodsAdoptionTest, TakesUpWhatRuns) {
  run_pod();
  const auto looks = runtime.count("ListContainers");
  runtime.held = {"ListContainers"};
  start();
  ASSERT_TRUE(until([&] { return runtime.count("ListContainers") >= looks + 2; }));  // all, and the pod's
  for (int i = 0; i < 100; ++i) loop.poll();
  EXPECT_FALSE(agent->complete());
  EXPECT_TRUE(agent->rows.empty());
  runtime.release();
  ASSERT_TRUE(until([&] { return agent->complete(); }));
  settle();
  EXPECT_TRUE(always_ready());
  EXPECT_EQ(runtime.count("RunPodSandbox"), 1U);
  EXPECT_EQ(runtime.count("CreateContainer"), 1U);
  EXPECT_TRUE(runtime.stops.empty());
}

// Of a pod whose agent died before the runtime had heard of it.
TEST_F(PodsAdoptionTest, TakesAwayWhatOnlyTheDiskKnows) {
  const std::filesystem::path made = config.state_dir + "/pods/u9";
  const std::filesystem::path logs = config.log_root + "/default_gone_u9";
  std::filesystem::create_directories(made / "volumes");
  std::filesystem::create_directories(logs / "web");
  desire(make_pod());
  start();
  ASSERT_TRUE(until([&] { return ready(); }));
  settle();
  EXPECT_TRUE(exists(made));  // it may yet be desired
  desire_is_complete();
  ASSERT_TRUE(until([&] { return !exists(made) && !exists(logs); }));
  EXPECT_TRUE(ready());
  EXPECT_TRUE(std::filesystem::exists(config.state_dir + "/pods/u1"));
}

TEST_F(PodsAdoptionTest, EndsItsOwnOrphansAndNobodyElses) {
  desire(make_named_pod("q", "u2"));
  run_pod();
  ASSERT_TRUE(until([&] { return ready("u2"); }));
  const auto of_u2 = [](const auto& one) { return one.second.metadata().uid() == "u2"; };
  const std::string orphan = std::ranges::find_if(runtime.sandboxes, of_u2)->first;
  auto& foreign = runtime.sandboxes["foreign"] = runtime.sandboxes[orphan];
  foreign.set_id("foreign");
  (*foreign.mutable_labels())[kOwnerLabel] = "somebody";
  foreign.mutable_metadata()->set_uid("u3");
  auto& inside = runtime.containers["foreign"] = *runtime.find("web");
  inside.sandbox_id = "foreign";
  (*inside.config.mutable_labels())[kOwnerLabel] = "somebody";

  pods = state::Table<model::Pod>({"test"});
  desire(make_pod());
  start();
  ASSERT_TRUE(until([&] { return ready(); }));
  settle();
  EXPECT_FALSE(agent->complete());
  EXPECT_TRUE(runtime.stops.empty());  // it may yet be desired

  desire_is_complete();
  ASSERT_TRUE(until([&] { return !runtime.sandboxes.contains(orphan); }));
  settle();
  ASSERT_EQ(runtime.stops.size(), 1U);
  EXPECT_EQ(runtime.stops.front().second, 7);  // as the container says that its pod asked
  EXPECT_EQ(runtime.sandboxes.size(), 2U);
  EXPECT_EQ(runtime.sandboxes["foreign"].state(), api::SANDBOX_READY);
  EXPECT_EQ(runtime.containers["foreign"].status.state(), api::CONTAINER_RUNNING);
  EXPECT_TRUE(ready());
  EXPECT_FALSE(agent->statuses.contains("u2"));
  EXPECT_EQ(agent->local_pods.get("u2"), nullptr);
}

TEST_F(PodsAdoptionTest, AnOrphanThatIsWantedAfterAllIsMadeAnew) {
  run_pod();
  agent.reset();
  undesire();
  runtime.held = {"StopContainer"};
  start();
  ASSERT_TRUE(until([&] { return runtime.stops.size() == 1; }));
  desire(make_pod());
  settle();
  runtime.release();
  ASSERT_TRUE(until([&] { return ready(); }));
  EXPECT_EQ(runtime.count("RunPodSandbox"), 2U);
}

TEST_F(PodsAdoptionTest, ARuntimeThatIsAwayAtTheStartLosesNothing) {
  run_pod();
  runtime.away = true;
  desire(make_named_pod("q", "u2"));
  start();
  settle();
  EXPECT_FALSE(agent->complete());
  EXPECT_TRUE(agent->rows.empty());
  runtime.away = false;
  ASSERT_TRUE(until([&] { return agent->complete() && ready() && ready("u2"); }));
  settle();
  EXPECT_EQ(runtime.count("RunPodSandbox"), 2U);
  EXPECT_TRUE(runtime.stops.empty());
}

TEST_F(PodsAdoptionTest, ReadinessOutlivesTheAgent) {
  run_pod(make_probed_pod());
  runtime.held = {"ExecSync"};
  start();
  ASSERT_TRUE(until([&] { return agent->complete(); }));
  settle();
  EXPECT_TRUE(always_ready());
}

TEST_F(PodsAdoptionTest, ReadinessDoesNotOutliveTheContainer) {
  run_pod(make_probed_pod());
  agent.reset();
  runtime.exit("web");
  runtime.held = {"ExecSync"};
  const auto probes = runtime.count("ExecSync");
  start();
  ASSERT_TRUE(until([&] { return runtime.runs("web") && runtime.count("ExecSync") > probes; }));
  settle();
  EXPECT_FALSE(ready());
  EXPECT_EQ(remembered(), R"({"ready":[],"started":[],"version":1})");
}

TEST_F(PodsAdoptionTest, WhatSomebodyRemovedIsForgottenAndMadeAnew) {
  run_pod(make_probed_pod());
  EXPECT_EQ(remembered(), R"({"ready":["c2"],"started":[],"version":1})");
  runtime.containers.clear();
  runtime.sandboxes.clear();
  ASSERT_TRUE(until([&] { return ready() && runtime.count("RunPodSandbox") == 2; }));
  EXPECT_EQ(remembered(), R"({"ready":["c4"],"started":[],"version":1})");
}

}  // namespace
}  // namespace fairlead::pods
