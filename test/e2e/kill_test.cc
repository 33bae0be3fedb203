// SPDX-License-Identifier: Apache-2.0
// The agent is killed again and again, at random points of its starts and of its work, while pods and endpoints come
// and go. What is wanted is reached all the same, once; what is not wanted is gone; what did not change never noticed.
#include <gmock/gmock.h>

#include <algorithm>
#include <iostream>
#include <random>

#include "test/e2e/fault_fixture.h"

namespace fairlead::e2e {
namespace {

using namespace std::chrono_literals;
using testing::IsEmpty;
using testkit::eventually;

constexpr int kKills = 50;
constexpr auto kLongestLife = 1200ms;  // a start takes 300 ms or more, a pod's start about as long
const std::vector<std::string> kComing{"come-1", "come-2", "come-3", "come-4"};

class KillTest : public FaultTest {
 protected:
  // Lets the agent live for a random while, from the moment of its birth.
  void let_live() {
    const auto life = std::chrono::milliseconds(std::uniform_int_distribution<int>(0, kLongestLife.count())(random_));
    EXPECT_FALSE(eventually([] { return !node_->agent_runs(); }, life)) << node_->agent_log();
  }

  // A pod comes or goes, and the endpoints of a Service without a selector are other ones.
  void change() {
    const std::string& name = kComing[std::uniform_int_distribution<std::size_t>(0, kComing.size() - 1)(random_)];
    if (wanted_.erase(name) != 0) {
      node_->withdraw(name + ".yaml");
    } else {
      wanted_.insert(name);
      apply(name, name == "come-4" ? once(name) : web(name, "", "coming"));
    }
    listed_ = std::uniform_int_distribution<std::size_t>(1, backends_.size())(random_);
    std::string endpoints;
    for (std::size_t i = 0; i < listed_; ++i) endpoints += fmt::format("{{addresses: [{}]}}, ", backends_[i]);
    apply("listed", fmt::format(R"(
apiVersion: v1
kind: Service
metadata: {{name: listed}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: listed-1, labels: {{kubernetes.io/service-name: listed}}}}
addressType: IPv4
ports: [{{name: http, port: 8080, protocol: TCP}}]
endpoints: [{}]
)",
                                endpoints));
  }
  // A pod that is never restarted: a start that was cut off is no start.
  static std::string once(const std::string& name) {
    return shell(name, "exec fl-echo serve --http 8080", "restartPolicy: Never");
  }

  // What is wanted runs, in one container each, and nothing else is there.
  void expect_settled() {
    for (const std::string& name : wanted_) expect_running(name);
    const auto want = base_.size() + 2 * wanted_.size();
    EXPECT_TRUE(eventually([&] { return node_->running_tasks() == static_cast<std::ptrdiff_t>(want); }, 30s))
        << node_->tasks() << node_->ctl("pod list").dump(1);
    for (const std::string& name : wanted_) EXPECT_EQ(node_->containers(name).size(), 1U) << name;
    EXPECT_TRUE(eventually([&] { return node_->ctl("endpoint list").size() == 3 + wanted_.size(); }, 10s))
        << node_->ctl("endpoint list").dump(1);
    EXPECT_TRUE(eventually([&] { return node_->backends("listed").size() == listed_; }, 10s))
        << node_->ctl("backend list").dump(1);
    std::size_t coming = wanted_.size() - wanted_.count("come-4");
    EXPECT_TRUE(eventually([&] { return node_->backends("coming").size() == coming; }, 10s))
        << node_->ctl("backend list").dump(1);
    EXPECT_EQ(node_->pins(), pins_);
  }

  const unsigned seed_ = std::random_device{}();
  std::mt19937 random_{seed_};
  std::set<std::string> wanted_;
  std::vector<std::string> backends_;
  std::size_t listed_ = 0;
};

TEST_F(KillTest, AnAgentKilledFiftyTimesLeavesNoTrace) {
  std::cout << "seed " << seed_ << std::endl;
  SCOPED_TRACE(fmt::format("seed {}", seed_));
  for (const std::string& backend : node_->backends("web")) backends_.push_back(backend.substr(0, backend.find(':')));
  ASSERT_EQ(backends_.size(), 2U);
  apply("coming", R"(
apiVersion: v1
kind: Service
metadata: {name: coming}
spec: {selector: {app: coming}, ports: [{name: http, port: 80, targetPort: http}]}
)");
  auto load = node_->load("client", kWeb4, 200);
  ASSERT_TRUE(load) << load.error().message();
  for (int kill = 1; kill <= kKills; ++kill) {
    change();
    let_live();
    node_->kill_agent();
    ASSERT_TRUE(node_->launch_agent());
    if (kill % 10 == 0) expect_settled();
    ASSERT_FALSE(HasFailure()) << "after " << kill << " kills";
  }
  const Json report = load->end();
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report["failed"], 0) << report.dump();
  EXPECT_GE(report["new_connections"], 1000) << report.dump();

  for (const std::string& name : wanted_) node_->withdraw(name + ".yaml");
  wanted_.clear();
  expect_settled();
  for (const char* name : {"coming.yaml", "listed.yaml"}) node_->withdraw(name);
  // What containerd itself has locked up or lost (node_restart_test.cc tells of it) is the agent's when it comes back.
  node_->kill_containerd();
  const auto runtime = node_->start_containerd();
  ASSERT_TRUE(runtime) << runtime.error().message();
  const std::string metrics = Node::fetch("http://127.0.0.1:10249/metrics");
  EXPECT_THAT(metrics, testing::HasSubstr("fairlead_ipam_addresses{family=\"4\",state=\"used\"} 3\n"));
  for (const char* name : {"client", "web-1", "web-2"}) EXPECT_EQ(node_->pod(name).value("restarts", -1), 0) << name;
}

}  // namespace
}  // namespace fairlead::e2e
