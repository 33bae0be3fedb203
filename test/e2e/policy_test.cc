// SPDX-License-Identifier: Apache-2.0
// NetworkPolicy on a whole node: manifests that deny and allow, seen from the pods themselves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/e2e/manifests.h"
#include "test/e2e/node_fixture.h"

namespace fairlead::e2e {
namespace {

using testkit::eventually;

constexpr auto kPolicy = R"(
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: web}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{{podSelector: {{matchLabels: {{app: {}}}}}}}]
    ports: [{{port: http}}]
)";

TEST(PolicyNode, DeniesAndAllowsAsManifestsSay) {
  auto made = Node::make("policy", "");
  ASSERT_TRUE(made) << made.error().message();
  Node& node = **made;
  const auto started = node.start_agent();
  ASSERT_TRUE(started) << started.error().message();
  node.apply("service.yaml", kService);
  node.apply("policy.yaml", fmt::format(kPolicy, "friend"));
  node.apply("web.yaml", web("web-1"));
  node.apply("friend.yaml", pod_of("friend", R"(args: [serve, --http, "8080"])", "", "app: friend"));
  node.apply("stranger.yaml", pod_of("stranger", R"(args: [serve, --http, "8080"])", "", "app: stranger"));
  // The node's own probe passes whatever the policy says.
  for (const char* pod : {"web-1", "friend", "stranger"}) {
    ASSERT_TRUE(eventually([&] { return node.pod_is(pod, "Running", "1/1"); })) << pod << "\n" << node.agent_log();
  }
  ASSERT_TRUE(eventually([&] { return node.backends("web").size() == 1; }));
  const auto asked = [&](const std::string& pod, const std::string& url) { return node.get(pod, url, 3); };
  for (const char* url : {kWeb4, kWeb6}) {
    EXPECT_EQ(asked("friend", url), (Answers{{"web-1", 3}})) << url;
    EXPECT_EQ(asked("stranger", url), (Answers{{"failed", 3}})) << url;
  }
  EXPECT_EQ(asked("friend", "tcp://10.96.0.80:81"), (Answers{{"failed", 3}})) << "another port";
  EXPECT_EQ(asked("", kWeb4), (Answers{{"web-1", 3}})) << "the node itself";
  EXPECT_EQ(asked("web-1", kWeb4), (Answers{{"web-1", 3}})) << "a pod reaches itself, behind its Service, too";
  const std::string friend_url = fmt::format("http://{}:8080/", node.pod("friend")["ips"][0].get<std::string>());
  EXPECT_EQ(asked("web-1", friend_url), (Answers{{"failed", 3}})) << "it may go nowhere else";
  EXPECT_EQ(asked("stranger", friend_url), (Answers{{"friend", 3}}));

  const Json trace = node.ctl("policy trace --from default/stranger --to default/web-1 --port 8080/TCP");
  EXPECT_EQ(trace["allowed"], false) << trace;
  EXPECT_EQ(trace["ingress"]["why"], "no rule allows it");
  const Json shown = node.ctl("policy get web-1");
  EXPECT_EQ(shown["in_force"], true) << shown;
  EXPECT_EQ(shown["ingress"]["rules"][0]["policy"], "default/web");

  // The policy's other friend, and the same over a restart of the agent.
  node.apply("policy.yaml", fmt::format(kPolicy, "stranger"));
  EXPECT_TRUE(eventually([&] { return asked("stranger", kWeb4) == Answers{{"web-1", 3}}; }));
  EXPECT_EQ(asked("friend", kWeb4), (Answers{{"failed", 3}}));
  node.kill_agent();
  EXPECT_EQ(asked("stranger", kWeb4), (Answers{{"web-1", 3}}));
  EXPECT_EQ(asked("friend", kWeb4), (Answers{{"failed", 3}}));
  const auto again = node.start_agent();
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(asked("stranger", kWeb4), (Answers{{"web-1", 3}}));
  EXPECT_EQ(asked("friend", kWeb4), (Answers{{"failed", 3}}));

  node.withdraw("policy.yaml");
  EXPECT_TRUE(eventually([&] { return asked("friend", kWeb4) == Answers{{"web-1", 3}}; }));
  EXPECT_EQ(node.ctl("policy get web-1")["ingress"]["isolated"], false);
}

}  // namespace
}  // namespace fairlead::e2e
