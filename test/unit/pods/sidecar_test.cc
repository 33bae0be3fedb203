// SPDX-License-Identifier: Apache-2.0
// Init containers with restartPolicy Always: when they start, restart and end, and what the status says of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/pods/status.h"
#include "test/unit/pods/pod.h"

namespace fairlead::pods {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr auto kRunning = RunState::kRunning;
constexpr auto kExited = RunState::kExited;

// Init containers: "first", which ends, the sidecars "mesh" and "log", and "last", which ends; then "web".
class SidecarTest : public testing::Test {
 protected:
  k8s::Pod pod = make_pod("Never", {"web"}, {"first", "mesh", "log", "last"});
  PodRuntimeView view{{sandbox()}, {}};
  PodHistory history{.volumes_ready = true};
  std::map<std::string, bool> ready;

  SidecarTest() {
    for (const int sidecar : {1, 2}) pod.mutable_spec()->mutable_initcontainers(sidecar)->set_restartpolicy("Always");
  }

  std::vector<std::string> plan(std::int64_t now = 100) const {
    std::vector<std::string> got;
    for (const Action& action : plan_pod_actions(pod.spec(), view, history, at(now)).actions) {
      const bool makes = action.what == Do::kCreateContainer;
      got.push_back(makes ? fmt::format("create {}#{}", action.name, action.attempt)
                    : action.what == Do::kKillContainer
                        ? fmt::format("kill {} {}s {}", action.id, action.grace_s, action.reason)
                        : fmt::format("other {}", static_cast<int>(action.what)));
    }
    return got;
  }
  k8s::PodStatus status() const {
    return compute_status({pod, view, history, ready, {}, nullptr, "containerd", at(100)});
  }
  void has(const ContainerView& container) { view.containers.push_back(container); }
  void run_all() {
    has(container("first", kExited));
    has(container("mesh", kRunning));
    has(container("log", kRunning));
    has(container("last", kExited));
    has(container("web", kRunning));
  }
};

TEST_F(SidecarTest, StartInTheirTurnAndHoldUpUntilTheyHaveStarted) {
  EXPECT_THAT(plan(), ElementsAre("create first#0"));
  has(container("first", kExited));
  EXPECT_THAT(plan(), ElementsAre("create mesh#0"));
  pod.mutable_spec()->mutable_initcontainers(1)->mutable_startupprobe();
  has(container("mesh", kRunning));
  EXPECT_THAT(plan(), IsEmpty());
  history.started["mesh0"] = true;
  EXPECT_THAT(plan(), ElementsAre("create log#0"));
  has(container("log", kRunning));
  EXPECT_THAT(plan(), ElementsAre("create last#0"));
  EXPECT_FALSE(initialized(pod.spec(), view, history));
  has(container("last", kExited));
  EXPECT_TRUE(initialized(pod.spec(), view, history));
  EXPECT_THAT(plan(), ElementsAre("create web#0"));
}

TEST_F(SidecarTest, OneThatEndsRunsAgainWhateverThePodsPolicyIs) {
  has(container("first", kExited));
  has(container("mesh", kExited));
  has(container("log", kRunning));
  EXPECT_THAT(plan(), ElementsAre("create mesh#1", "create last#0")) << "and holds up nobody behind it";
  view.containers.clear();
  run_all();
  view.containers[1] = container("mesh", kExited, 0, 1);
  EXPECT_THAT(plan(), ElementsAre("create mesh#1"));
  EXPECT_EQ(pod_outcome(pod.spec(), view, history), Outcome::kOpen);
  view.containers[1] = container("mesh", kExited, 3, 0, 95, 3);
  EXPECT_THAT(plan(), IsEmpty()) << "it backs off as others do";
  EXPECT_EQ(status().initcontainerstatuses(1).state().waiting().reason(), "CrashLoopBackOff");
  view.containers[1] = container("mesh", kRunning);
  history.unhealthy["mesh0"] = "failed liveness probe";
  EXPECT_THAT(plan(), ElementsAre("kill mesh0 7s Unhealthy"));
}

TEST_F(SidecarTest, EndAfterTheOthersInReverse) {
  run_all();
  history.ending_grace_s = 30;
  history.ending_since = at(100);
  EXPECT_THAT(plan(), ElementsAre("kill web0 30s Killing"));
  view.containers[4] = container("web", kExited);
  EXPECT_THAT(plan(110), ElementsAre("kill log0 20s Killing")) << "within what is left of the grace period";
  view.containers[2] = container("log", kExited);
  EXPECT_THAT(plan(140), ElementsAre("kill mesh0 2s Killing")) << "but in two seconds at least";
}

TEST_F(SidecarTest, GoWithThePodThatIsDone) {
  run_all();
  view.containers[4] = container("web", kExited);
  EXPECT_EQ(pod_outcome(pod.spec(), view, history), Outcome::kSucceeded);
  EXPECT_THAT(plan(), ElementsAre("kill log0 7s Completed"));
  view.containers[2] = container("log", kExited, 0, 137);
  view.containers[1] = container("mesh", kExited, 0, 137);
  EXPECT_EQ(status().phase(), "Succeeded");
}

TEST_F(SidecarTest, AnInitContainerThatFailsEndsThemToo) {
  has(container("first", kExited));
  has(container("mesh", kRunning));
  has(container("log", kRunning));
  has(container("last", kExited, 0, 1));
  EXPECT_EQ(pod_outcome(pod.spec(), view, history), Outcome::kFailed);
  EXPECT_THAT(plan(), ElementsAre("kill log0 7s Completed"));
}

TEST_F(SidecarTest, TheStatusTellsOfThemAsOfContainers) {
  run_all();
  auto told = status();
  EXPECT_TRUE(told.initcontainerstatuses(1).ready());
  EXPECT_TRUE(told.initcontainerstatuses(1).started());
  EXPECT_TRUE(condition(told, "Initialized"));
  EXPECT_TRUE(condition(told, "Ready"));
  pod.mutable_spec()->mutable_initcontainers(2)->mutable_readinessprobe();
  told = status();
  EXPECT_FALSE(told.initcontainerstatuses(2).ready());
  EXPECT_FALSE(condition(told, "Ready"));
  EXPECT_FALSE(condition(told, "ContainersReady"));
  EXPECT_EQ(told.phase(), "Running");
  ready["log0"] = true;
  EXPECT_TRUE(condition(status(), "Ready"));
}

TEST_F(SidecarTest, ANewSandboxBeginsAnew) {
  run_all();
  pod.mutable_spec()->set_restartpolicy("Always");
  view.sandboxes = {sandbox(1)};
  for (ContainerView& one : view.containers) one = container(one.name, kExited);
  EXPECT_THAT(plan(), ElementsAre("create first#1"));
  has(container("first", kExited, 1, 0, 5, 0, 1));
  EXPECT_THAT(plan(), ElementsAre("create mesh#1"));
}

}  // namespace
}  // namespace fairlead::pods
