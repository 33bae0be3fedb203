// SPDX-License-Identifier: Apache-2.0
// The runtime fails in every way that it can: what runs goes on, what is wanted meanwhile comes afterwards, once.
#include <gmock/gmock.h>

#include "test/e2e/fault_fixture.h"

namespace fairlead::e2e {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testkit::eventually;

class RuntimeFaultTest : public FaultTest {
 protected:
  // A pod is asked for while the runtime fails: the agent says so, and names the call.
  static void ask_for_a_pod() {
    apply("extra", web("extra", "", "other"));
    EXPECT_TRUE(eventually([&] { return failing("pods: runtime").contains("CRI List"); }, 30s))
        << node_->ctl("status").dump(1);
    EXPECT_FALSE(runs("extra"));
    expect_in_force();
  }
  static void expect_it_runs_once() {
    expect_running("extra");
    EXPECT_EQ(node_->containers("extra", false).size(), 1U);
    EXPECT_EQ(node_->all_containers().size(), base_.size() + 2);
    expect_in_force();
  }
};

TEST_F(RuntimeFaultTest, ARuntimeThatIsAway) {
  proxy_->cut();
  ask_for_a_pod();
  proxy_->pass();
  expect_it_runs_once();
}

// It takes calls and answers none, until it is restarted.
TEST_F(RuntimeFaultTest, ARuntimeThatHangs) {
  proxy_->hang();
  ask_for_a_pod();
  proxy_->cut();
  proxy_->pass();
  expect_it_runs_once();
}

TEST_F(RuntimeFaultTest, ARuntimeThatTalksNonsense) {
  proxy_->answer_with("HTTP/1.1 418 I'm a teapot\r\n\r\n\1\2\3");
  ask_for_a_pod();
  proxy_->pass();
  expect_it_runs_once();
}

TEST_F(RuntimeFaultTest, ARuntimeThatIsSlow) {
  proxy_->delay(150ms);
  apply("extra", web("extra", "", "other"));
  expect_it_runs_once();
  proxy_->pass();
}

// Without the sandboxes' image it refuses every sandbox.
TEST_F(RuntimeFaultTest, ARuntimeThatAnswersErrors) {
  const std::string image = "localhost/fairlead/pause:demo";
  ASSERT_EQ(node_->ctr("images tag " + image + " localhost/kept:1").code, 0);
  ASSERT_EQ(node_->ctr("images rm --sync " + image).code, 0);
  apply("extra", web("extra", "", "other"));
  const auto said = [] { return pod_failures("extra").value("/sandbox", ""); };
  EXPECT_TRUE(eventually([&] { return !said().empty(); }, 20s)) << node_->ctl("pod get extra").dump(1);
  EXPECT_THAT(said(), HasSubstr("RunPodSandbox"));
  EXPECT_THAT(said(), HasSubstr(image));
  expect_in_force();
  ASSERT_EQ(node_->ctr("images tag localhost/kept:1 " + image).code, 0);
  expect_it_runs_once();
}

}  // namespace
}  // namespace fairlead::e2e
