// SPDX-License-Identifier: Apache-2.0
// Host ports in the pods domain: who gets one, and what becomes of who does not.
#include "test/unit/pods/domain.h"

namespace fairlead::pods {
namespace {

k8s::Pod taking_port(const std::string& name, const std::string& uid, int port, const std::string& policy = "Always") {
  k8s::Pod pod = make_named_pod(name, uid);
  pod.mutable_spec()->set_restartpolicy(policy);
  auto& taken = *pod.mutable_spec()->mutable_containers(0)->add_ports();
  taken.set_containerport(8080);
  taken.set_hostport(port);
  return pod;
}

class PodsPortsTest : public PodsDomainTest {
 protected:
  std::string reason(const std::string& uid) const {
    const auto at = agent->statuses.find(uid);
    return at == agent->statuses.end() ? "" : at->second.status->reason();
  }
};

TEST_F(PodsPortsTest, APodWhosePortIsTakenFails) {
  run_pod(taking_port("first", "u9", 80));
  desire(taking_port("second", "u1", 80));
  ASSERT_TRUE(until([&] { return phase("u1") == "Failed"; }));
  EXPECT_EQ(reason("u1"), "NodePorts");
  EXPECT_EQ(agent->statuses.at("u1").status->message(),
            "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports: "
            "*:80/TCP is pod ns/first's");
  EXPECT_TRUE(agent->happened("NodePorts"));
  settle();
  EXPECT_EQ(runtime.count("RunPodSandbox"), 1U);
  EXPECT_TRUE(ready("u9"));
}

TEST_F(PodsPortsTest, ARestartTakesNoPortFromWhoRuns) {
  run_pod(taking_port("first", "u9", 80));
  desire(taking_port("second", "u1", 80));  // comes first of both to the next agent
  start();
  ASSERT_TRUE(until([&] { return phase("u1") == "Failed" && ready("u9"); }));
  settle();
  EXPECT_EQ(runtime.count("RunPodSandbox"), 1U);
  EXPECT_EQ(runtime.stops.size(), 0U);
}

TEST_F(PodsPortsTest, APortIsFreeWhenItsPodEnded) {
  run_pod(taking_port("first", "u9", 80, "Never"));
  runtime.exit("web");
  ASSERT_TRUE(until([&] { return phase("u9") == "Succeeded"; }));
  desire(taking_port("second", "u1", 80));
  ASSERT_TRUE(until([&] { return ready("u1"); }));
}

TEST_F(PodsPortsTest, WhoWasRefusedStaysSo) {
  k8s::Pod pod = taking_port("second", "u1", 80);
  pod.mutable_status()->set_phase("Failed");
  pod.mutable_status()->set_reason("NodePorts");
  pod.mutable_status()->set_message("Pod was rejected: by an agent before");
  desire(pod);
  desire_is_complete();
  start();
  settle();
  EXPECT_FALSE(agent->statuses.contains("u1"));  // what was told stands
  EXPECT_EQ(runtime.count("RunPodSandbox"), 0U);
  EXPECT_FALSE(agent->happened("NodePorts"));
}

}  // namespace
}  // namespace fairlead::pods
