// SPDX-License-Identifier: Apache-2.0
// A pod that floods from the first instruction of its first init container, and is flooded all the while: on a whole
// node, with a real runtime, over kill -9 and restart of the agent. What arrives is counted in the pods.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "test/e2e/manifests.h"
#include "test/e2e/node_fixture.h"

namespace fairlead::e2e {
namespace {

namespace fs = std::filesystem;
using testkit::eventually;

constexpr auto kDeny = R"(
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: quiet}
spec: {podSelector: {matchLabels: {app: quiet}}, policyTypes: [Ingress, Egress]}
)";

std::string flood(const std::string& to, const std::string& more = "") {
  return fmt::format(R"(args: [flood, "udp://{}:7777", --listen, "7777"{}])", to, more);
}

struct Count {
  unsigned long sent = 0, received = 0;
};

// What fl-echo flood in a container told last; nothing if it has not yet.
std::optional<Count> told(const Node& node, const std::string& pod, const std::string& container) {
  std::optional<Count> last;
  for (const auto& folder : fs::directory_iterator(node.folder() / "logs")) {
    if (folder.path().filename().string().find("_" + pod + "_") == std::string::npos) continue;
    std::ifstream in(folder.path() / container / "0.log");
    for (std::string line; std::getline(in, line);) {
      Count count;
      const std::size_t at = line.find("sent ");
      if (at == std::string::npos) continue;
      if (std::sscanf(line.c_str() + at, "sent %lu received %lu", &count.sent, &count.received) == 2) last = count;
    }
  }
  return last;
}

// Both floods go on, and what came of the other's.
void expect_silence(const Node& node, const std::string& while_what) {
  for (const char* pod : {"quiet", "loud"}) {
    const auto before = told(node, pod, "main");
    ASSERT_TRUE(before) << pod << " " << while_what;
    EXPECT_TRUE(eventually([&] { return told(node, pod, "main")->sent >= before->sent + 1000; })) << pod << while_what;
    EXPECT_EQ(told(node, pod, "main")->received, 0U) << pod << " " << while_what;
  }
}

TEST(PolicyFlood, NothingLeavesOrReachesAPodFromItsFirstInstructionOn) {
  auto made = Node::make("policy-flood", "");
  ASSERT_TRUE(made) << made.error().message();
  Node& node = **made;
  const auto started = node.start_agent();
  ASSERT_TRUE(started) << started.error().message();
  node.apply("policy.yaml", kDeny);
  ASSERT_TRUE(eventually([&] { return node.ctl("status")["components"]["policy"].value("policies", 0) == 1; }))
      << node.ctl("status").dump(1);
  // Everybody can guess the next pod's address.
  node.apply("loud.yaml", pod_of("loud", flood("10.244.7.3")));
  ASSERT_TRUE(eventually([&] { return told(node, "loud", "main").has_value(); })) << node.agent_log();
  const std::string loud = node.pod("loud")["ips"][0];
  ASSERT_EQ(loud, "10.244.7.2");
  node.apply("quiet.yaml", pod_of("quiet", flood(loud),
                                  fmt::format(R"(initContainers:
  - {{name: first, image: "localhost/fairlead/echo:demo", {}}}
  - {{name: second, image: "localhost/fairlead/echo:demo", {}}})",
                                              flood(loud, R"(, --duration, 1s)"), flood(loud, R"(, --duration, 1s)")),
                                  "app: quiet"));
  ASSERT_TRUE(eventually([&] { return told(node, "quiet", "main").has_value(); })) << node.agent_log();
  ASSERT_EQ(node.pod("quiet")["ips"][0], "10.244.7.3") << "nobody has flooded it";
  for (const char* container : {"first", "second"}) {
    const auto count = told(node, "quiet", container);
    ASSERT_TRUE(count) << container;
    EXPECT_GT(count->sent, 1000U) << container;
    EXPECT_EQ(count->received, 0U) << container;
  }
  expect_silence(node, "it started");

  node.kill_agent();
  expect_silence(node, "no agent runs");
  const auto again = node.start_agent();
  ASSERT_TRUE(again) << again.error().message();
  expect_silence(node, "another agent has started");

  // Which side denies is told, and whose policy it was.
  for (const auto& [reason, sender] :
       {std::pair{"policy_egress", "default/quiet"}, {"policy_ingress", "default/loud"}}) {
    const Json drop = node.ctl(fmt::format("monitor --reason {} --count 1", reason));
    EXPECT_EQ(drop["reason"], reason) << drop;
    EXPECT_EQ(drop["source_pod"], sender) << drop;
    EXPECT_EQ(drop["isolated_pod"], "default/quiet") << drop;
  }

  // The test can fail: without the policy, each hears the other.
  node.withdraw("policy.yaml");
  EXPECT_TRUE(eventually([&] { return told(node, "quiet", "main")->received > 0; }));
  EXPECT_TRUE(eventually([&] { return told(node, "loud", "main")->received > 0; }));
}

}  // namespace
}  // namespace fairlead::e2e
