// SPDX-License-Identifier: Apache-2.0
// Fail closed, with real agents: a pod floods and is flooded from before it has a network, while its agent is killed
// and starts again, while policies and labels change from one that denies to another. Nothing arrives, either way, for
// as long as every policy that is ever in force denies it.
#include <algorithm>
#include <array>

#include "test/netns/policy_agents.h"

namespace fairlead {
namespace {

using testkit::BedNode;
using testkit::Endpoint;
using testkit::eventually;
using testkit::Flood;
using testkit::Labels;
using testkit::PodNetns;
using testkit::Sink;

constexpr std::uint16_t kProbed = 7777;
constexpr auto kDenyAll = "{podSelector: {}, policyTypes: [Ingress, Egress]}";

class PolicyFlood : public PolicyAgents {
 protected:
  static void SetUpTestSuite() {
    PolicyAgents::SetUpTestSuite();
    ASSERT_NE(bed, nullptr);
    // Two namespaces: what is in `default` is isolated by nobody.
    ASSERT_EQ(why(bed->create_namespace("shop", {{"team", "a"}})), "");
    add_pod(1, "default/here", {{"app", "prober"}});
    add_pod(2, "default/there", {{"app", "prober"}});
  }

  // The next address that a node gives, as everybody can guess.
  static IpAddress next_to(const IpAddress& last) {
    std::array<std::uint8_t, 16> bytes{};
    std::ranges::copy(last.bytes(), bytes.begin());
    ++bytes[last.bytes().size() - 1];
    return last.is_v4() ? IpAddress::from_v4({bytes[0], bytes[1], bytes[2], bytes[3]}) : IpAddress::from_v6(bytes);
  }
  static std::string policy_of(const std::string& pod) { return bed->node(1).ctl("policy get " + pod).dump(); }
  // The agent says that `pod` has its policy in force, and that it names `text`.
  static bool in_force(const std::string& pod, const std::string& text) {
    return eventually([&] {
      const Json answer = bed->node(1).ctl("policy get " + pod);
      return answer.value("in_force", false) && answer.dump().find(text) != std::string::npos;
    });
  }
};

TEST_F(PolicyFlood, NothingPassesAtAnyMoment) {
  apply("shop/deny", kDenyAll);
  auto made = PodNetns::make("n1-quiet");
  ASSERT_TRUE(made) << why(made);
  const auto uid = bed->create_pod(1, "shop/quiet", {{"app", "quiet"}});
  ASSERT_TRUE(uid) << why(uid);

  const auto address = [](const std::string& key, Family family) { return bed->pod(key).address(family); };
  const PodNetns& here = bed->pod("default/here").netns();
  const PodNetns& there = bed->pod("default/there").netns();
  Sink at_quiet(*made, kProbed);
  Sink at_here(here, kProbed);
  Sink at_there(there, kProbed);
  // From before it has any device: its own node and the other one, each by one family one way and by the other back.
  std::vector<std::unique_ptr<Flood>> floods;
  for (const auto& [from, to] :
       {std::pair<const PodNetns*, IpAddress>{&here, next_to(address("default/here", Family::kV4))},
        {&there, next_to(address("default/here", Family::kV6))},
        {&*made, address("default/here", Family::kV6)},
        {&*made, address("default/there", Family::kV4)}}) {
    floods.push_back(std::make_unique<Flood>(*from, Endpoint{to, kProbed}));
  }
  const auto silent = [&](const std::string& while_what) {
    for (std::size_t i = 0; i < floods.size(); ++i) {
      EXPECT_TRUE(floods[i]->goes_on(500)) << "flood " << i << " has ended: " << while_what;
    }
    EXPECT_EQ(at_quiet.count(), 0U) << while_what;
    EXPECT_EQ(at_here.count(), 0U) << while_what;
    EXPECT_EQ(at_there.count(), 0U) << while_what;
    return !HasFailure();
  };
  ASSERT_TRUE(floods[0]->goes_on(100));
  const auto attached = bed->attach_pod(1, "shop/quiet", *uid, std::move(*made));
  ASSERT_TRUE(attached) << why(attached);
  for (const Family family : kFamilies) {
    ASSERT_EQ(address("shop/quiet", family), next_to(address("default/here", family))) << "nobody has flooded it";
  }
  ASSERT_TRUE(silent("it started"));

  BedNode& node = bed->node(1);
  node.kill();
  ASSERT_TRUE(silent("no agent ran"));
  const auto started = node.start();
  ASSERT_TRUE(started) << why(started);
  ASSERT_TRUE(silent("another agent started"));
  ASSERT_TRUE(in_force("shop/quiet", "shop/deny")) << policy_of("shop/quiet");

  // From one policy that denies to another: by rules that name others, by a second one that makes the first
  // unnecessary, and by its end.
  for (const char* spec : {R"({podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}]}],
                               egress: [{to: [{podSelector: {}}]}]})",
                           R"({podSelector: {matchLabels: {app: quiet}}, policyTypes: [Ingress, Egress],
                               ingress: [{ports: [{port: 80}]}], egress: [{ports: [{port: 80}]}]})",
                           R"({podSelector: {}, policyTypes: [Ingress, Egress],
                               ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24}}]}],
                               egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]})"}) {
    apply("shop/deny", spec);
    ASSERT_TRUE(in_force("shop/quiet", "shop/deny"));
    ASSERT_TRUE(silent(spec));
  }
  apply("shop/second", kDenyAll);
  ASSERT_TRUE(in_force("shop/quiet", "shop/second")) << policy_of("shop/quiet");
  ASSERT_TRUE(silent("a second policy came"));
  ASSERT_EQ(why(bed->delete_policy("shop/deny")), "");
  policies_.erase("shop/deny");
  ASSERT_TRUE(eventually([&] { return policy_of("shop/quiet").find("shop/deny") == std::string::npos; }));
  ASSERT_TRUE(silent("the first one went"));

  // Its own labels, from what one policy selects to what another one does; those of its namespace; those of a peer.
  apply("shop/red", "{podSelector: {matchLabels: {color: red}}, policyTypes: [Ingress, Egress]}");
  ASSERT_EQ(why(bed->set_labels("shop/quiet", {{"app", "quiet"}, {"color", "red"}})), "");
  ASSERT_TRUE(in_force("shop/quiet", "shop/red"));
  ASSERT_EQ(why(bed->delete_policy("shop/second")), "");
  policies_.erase("shop/second");
  apply("shop/blue", "{podSelector: {matchLabels: {color2: blue}}, policyTypes: [Ingress, Egress]}");
  for (const Labels& labels :
       {Labels{{"color", "red"}, {"color2", "blue"}}, Labels{{"color2", "blue"}},
        Labels{{"color", "red"}, {"color2", "blue"}, {"more", "of-it"}}, Labels{{"color", "red"}}}) {
    ASSERT_EQ(why(bed->set_labels("shop/quiet", labels)), "");
    ASSERT_TRUE(in_force("shop/quiet", labels.contains("color") ? "shop/red" : "shop/blue")) << policy_of("shop/quiet");
    ASSERT_TRUE(silent("its labels changed"));
  }
  apply("shop/red", R"({podSelector: {matchLabels: {color: red}}, policyTypes: [Ingress, Egress],
    ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}}]}],
    egress: [{to: [{namespaceSelector: {matchLabels: {team: a}}}]}]})");
  ASSERT_TRUE(in_force("shop/quiet", "shop/red"));
  for (const char* app : {"other", "prober"}) {
    for (const char* pod : {"default/here", "default/there"}) ASSERT_EQ(why(bed->set_labels(pod, {{"app", app}})), "");
    ASSERT_EQ(why(bed->set_namespace_labels("shop", {{"team", app}})), "");
    ASSERT_TRUE(silent("its peers' labels changed"));
  }

  // The test can fail: once nothing denies it, all of it arrives.
  ASSERT_EQ(why(bed->delete_policy("shop/red")), "");
  ASSERT_EQ(why(bed->delete_policy("shop/blue")), "");
  policies_.clear();
  EXPECT_TRUE(eventually([&] { return at_quiet.count() > 0 && at_here.count() > 0 && at_there.count() > 0; }));
}

}  // namespace
}  // namespace fairlead
