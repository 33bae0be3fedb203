// SPDX-License-Identifier: Apache-2.0
// A pod's life on a whole node: probes, restarts, init containers, changes and ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/e2e/node_suite.h"

namespace fairlead::e2e {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::HasSubstr;
using testkit::eventually;

TEST_P(NodeTest, AFailedLivenessProbeRestartsTheContainer) {
  apply("live", pod_of("live", R"(args: [serve, --http, "8080", --unready-file, /tmp/unready],
     livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 2})"));
  apply("steady", pod_of("steady", R"(args: [serve, --http, "8080"],
     livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1, failureThreshold: 1})"));
  expect_running("live");
  expect_running("steady");
  const auto before = node_->containers("live");
  const auto addresses = ips("live");
  EXPECT_EQ(node_->in_pod("live", "touch /tmp/unready").code, 0);
  EXPECT_TRUE(eventually([] { return restarts("live") == 1; }, 20s)) << node_->pod("live").dump();
  expect_running("live");
  EXPECT_NE(node_->containers("live"), before);
  EXPECT_EQ(ips("live"), addresses);  // the sandbox stayed
  EXPECT_EQ(restarts("steady"), 0);
}

TEST_P(NodeTest, TheRestartPolicyDecides) {
  const std::string on_failure = "restartPolicy: OnFailure", never = "restartPolicy: Never";
  const std::string volume = "\n  volumes: [{name: v, emptyDir: {}}]";
  const std::string mount = ", volumeMounts: [{name: v, mountPath: /v}]";
  apply("done", shell("done", "exit 0", on_failure));
  apply("retried", shell("retried", "[ -e /v/seen ] && exit 0; touch /v/seen; exit 3", on_failure + volume, mount));
  apply("failed", shell("failed", "exit 3", never));
  apply("once", shell("once", "exit 0", never));
  for (const auto& [name, expected] : std::map<std::string, std::string>{
           {"done", "Succeeded"}, {"retried", "Succeeded"}, {"failed", "Failed"}, {"once", "Succeeded"}}) {
    EXPECT_TRUE(eventually([&] { return node_->pod_text(name, "phase") == expected; }, 30s))
        << node_->ctl("pod get " + name).dump(1);
  }
  EXPECT_EQ(restarts("retried"), 1);
  for (const char* name : {"done", "failed", "once"}) EXPECT_EQ(restarts(name), 0) << name;
}

TEST_P(NodeTest, InitContainersRunInOrderBeforeTheApp) {
  apply("ordered", R"(
apiVersion: v1
kind: Pod
metadata: {name: ordered}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {}}]
  initContainers:
  - {name: one, image: "localhost/fairlead/busybox:demo", command: [sh, -c, "sleep 0.5; echo one >>/v/order"],
     volumeMounts: [{name: v, mountPath: /v}]}
  - {name: two, image: "localhost/fairlead/busybox:demo", command: [sh, -c, "sleep 0.2; echo two >>/v/order"],
     volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - {name: main, image: "localhost/fairlead/busybox:demo", command: [sh, -c, "echo main >>/v/order; exec sleep 1000"],
     volumeMounts: [{name: v, mountPath: /v}]}
)");
  expect_running("ordered");
  // Running is a container whose process was started: its first line comes a little later. No later one makes a wrong
  // order right.
  const auto order = [] { return node_->in_pod("ordered", "cat /v/order").output; };
  EXPECT_TRUE(eventually([&] { return order() == "one\ntwo\nmain\n"; }, 5s)) << order();
}

TEST_P(NodeTest, AFailingInitContainerKeepsTheAppFromRunning) {
  apply("stuck", R"(
apiVersion: v1
kind: Pod
metadata: {name: stuck}
spec:
  restartPolicy: Never
  initContainers:
  - {name: one, image: "localhost/fairlead/busybox:demo", command: [sh, -c, "exit 7"]}
  containers:
  - {name: main, image: "localhost/fairlead/busybox:demo", command: [sleep, "1000"]}
)");
  EXPECT_TRUE(eventually([] { return node_->pod_text("stuck", "phase") == "Failed"; }, 20s))
      << node_->ctl("pod get stuck").dump(1);
  EXPECT_EQ(node_->containers("stuck", false).size(), 1u);
}

TEST_P(NodeTest, ABadManifestKeepsTheLastGoodVersion) {
  apply("web", web("web-1"));
  expect_running("web-1");
  const auto before = node_->containers("web-1");
  EXPECT_EQ(node_->ctl("status").value("refused", Json()), Json::array());
  apply("web", web("web-1", ", nonsense: 1"));
  EXPECT_TRUE(eventually([] { return !node_->refused("web-1").empty(); }, 10s));
  EXPECT_THAT(node_->refused("web-1"), Contains(HasSubstr("nonsense")));
  node_->kill_agent();
  const auto started = node_->start_agent();
  ASSERT_TRUE(started) << started.error().message();
  expect_running("web-1");
  EXPECT_THAT(node_->refused("web-1"), Contains(HasSubstr("nonsense")));
  EXPECT_EQ(node_->containers("web-1"), before);
  apply("web", web("web-1"));
  EXPECT_TRUE(eventually([] { return node_->refused("web-1").empty(); }, 10s));
  EXPECT_EQ(node_->containers("web-1"), before);
}

// A pod's immutable field changes: the old one ends, then the new one runs.
TEST_P(NodeTest, AChangedPodIsReplaced) {
  apply("web", web("web-1"));
  expect_running("web-1");
  const std::string uid = node_->pod_text("web-1", "uid");
  const auto before = node_->containers("web-1");
  apply("web", web("web-1", ", env: [{name: POD_NAME, value: renamed}]"));
  EXPECT_TRUE(
      eventually([&] { return node_->containers("web-1") != before && node_->pod_text("web-1", "uid") != uid; }, 20s));
  expect_running("web-1");
  EXPECT_EQ(node_->get("", fmt::format("http://{}:8080/", ips("web-1").at(0)), 2), (Answers{{"renamed", 2}}));
  EXPECT_EQ(node_->containers("web-1", false).size(), 1u);
}

TEST_P(NodeTest, APodThatIgnoresSigtermIsKilledAfterItsGracePeriod) {
  apply("deaf", shell("deaf", "trap true TERM; while true; do sleep 0.1; done", "", ""));
  expect_running("deaf");
  const auto from = std::chrono::steady_clock::now();
  node_->withdraw("deaf.yaml");
  EXPECT_TRUE(eventually([] { return node_->pod("deaf").is_null(); }, 20s));
  const auto took = std::chrono::steady_clock::now() - from;
  EXPECT_GE(took, 4900ms);
  EXPECT_LT(took, 8s);
}

TEST_P(NodeTest, ACrashingContainerBacksOff) {
  apply("crash", shell("crash", "exit 3"));
  EXPECT_TRUE(eventually([] { return node_->pod_text("crash", "status") == "CrashLoopBackOff"; }, 20s))
      << node_->ctl("pod get crash").dump(1);
  EXPECT_EQ(restarts("crash"), 1);
  EXPECT_EQ(node_->pod_text("crash", "phase"), "Running");
}

}  // namespace
}  // namespace fairlead::e2e
