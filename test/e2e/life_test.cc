// SPDX-License-Identifier: Apache-2.0
// How long pods live and what lives beside them, on a whole node: sidecars, activeDeadlineSeconds, subPathExpr.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/e2e/manifests.h"
#include "test/e2e/node_fixture.h"

namespace fairlead::e2e {
namespace {

using namespace std::chrono_literals;
using testkit::eventually;

constexpr auto kWait = "trap exit TERM; sleep 1000 & wait";

class LifeTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto made = Node::make("life", "");
    ASSERT_TRUE(made) << made.error().message();
    const auto started = (*made)->start_agent();
    ASSERT_TRUE(started) << started.error().message();
    node_ = std::move(*made);
  }
  static void TearDownTestSuite() { node_.reset(); }
  void SetUp() override { ASSERT_NE(node_, nullptr); }
  void TearDown() override {
    if (node_ == nullptr) return;
    node_->withdraw_all();
    EXPECT_TRUE(eventually([] { return node_->ctl("pod list") == Json::array() && node_->leftovers().empty(); }, 20s))
        << node_->leftovers() << node_->ctl("pod list").dump(1);
    if (HasFailure()) std::cerr << node_->agent_log();
  }

  static Json status(const std::string& pod) {
    const Json known = node_->ctl("pod get " + pod);
    return known.is_object() ? known.value("object_status", Json::object()) : Json::object();
  }
  static bool is(const std::string& pod, const std::string& phase) { return status(pod).value("phase", "") == phase; }

  static inline std::unique_ptr<Node> node_;
};

TEST_F(LifeTest, APodIsEndedAtItsDeadline) {
  node_->apply("late.yaml", shell("late", kWait, "activeDeadlineSeconds: 3"));
  EXPECT_TRUE(eventually([] { return is("late", "Running"); }, 20s)) << status("late").dump(1);
  EXPECT_TRUE(eventually([] { return is("late", "Failed") && node_->containers("late").empty(); }, 20s))
      << status("late").dump(1);
  EXPECT_EQ(status("late")["reason"], "DeadlineExceeded");
  // Nor does another agent run it again.
  node_->kill_agent();
  const auto again = node_->start_agent();
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_TRUE(eventually([] { return is("late", "Failed"); }, 10s)) << status("late").dump(1);
  EXPECT_TRUE(node_->containers("late").empty());
}

TEST_F(LifeTest, ASubPathMayTellOfVariables) {
  node_->apply("logs.yaml", shell("logs", kWait, "volumes: [{name: v, emptyDir: {}}]",
                                  R"x(, env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}],
     volumeMounts: [{name: v, mountPath: /all}, {name: v, mountPath: /own, subPathExpr: "of/$(POD)"}])x"));
  ASSERT_TRUE(eventually([] { return node_->pod_is("logs", "Running", "1/1"); }, 20s)) << node_->pod("logs").dump(1);
  EXPECT_EQ(node_->in_pod("logs", "echo mine >/own/file; cat /all/of/logs/file").output, "mine\n");
}

// The sidecar is there before the other container starts, restarts although the pod never does, and ends after it.
TEST_F(LifeTest, ASidecarLivesAroundItsPod) {
  const auto sidecar = [](const std::string& line, const std::string& more = "") {
    return fmt::format(R"(restartPolicy: Never
  volumes: [{{name: v, emptyDir: {{}}}}]
  initContainers:
  - {{name: side, image: "localhost/fairlead/echo:demo", restartPolicy: Always, command: [sh, -c, '{}'],
      volumeMounts: [{{name: v, mountPath: /v}}]{}}})",
                       line, more);
  };
  node_->apply(
      "with.yaml",
      shell("with", "test -e /v/up && exec sleep 1000",
            sidecar("trap exit TERM; sleep 1; touch /v/up; sleep 1000 & wait",
                    ", startupProbe: {exec: {command: [test, -e, /v/up]}, periodSeconds: 1, failureThreshold: 60}"),
            ", volumeMounts: [{name: v, mountPath: /v}]"));
  ASSERT_TRUE(eventually([] { return node_->containers("with").size() == 2 && is("with", "Running"); }, 20s))
      << status("with").dump(1);
  const auto side = [] { return status("with")["initContainerStatuses"][0]; };
  EXPECT_EQ(side()["started"], true) << side();
  EXPECT_EQ(side()["ready"], true);
  EXPECT_EQ(node_->pod_text("with", "ready"), "2/2");
  const std::string id = side().value("containerID", "");
  node_->kill_task(id.substr(id.rfind('/') + 1));
  EXPECT_TRUE(eventually([&] { return side().value("restartCount", 0) == 1 && side().value("ready", false); }, 20s))
      << side();
  EXPECT_TRUE(is("with", "Running"));

  node_->apply("done.yaml", shell("done", "exit 0", sidecar(kWait)));
  EXPECT_TRUE(eventually([] { return is("done", "Succeeded") && node_->containers("done").empty(); }, 20s))
      << status("done").dump(1);
}

}  // namespace
}  // namespace fairlead::e2e
