// SPDX-License-Identifier: Apache-2.0
#include "agent/policy/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/unit/policy/domain.h"

namespace fairlead::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;

class PolicyTest : public testing::Test {
 protected:
  void run() {
    domain_.complete();
    domain_.start();
    domain_.turn();
  }
  static k8s::Pod web() { return Domain::pod("shop/web", {{"app", "web"}}, {ip("10.0.1.2"), ip("fd00::2")}); }
  static k8s::Pod client(const std::string& name, const std::string& app, const std::string& address) {
    return Domain::pod("shop/" + name, {{"app", app}}, {ip(address)});
  }
  Json failing() { return domain_.ask("policy.sync").value()["failing"]; }

  Domain domain_;
};

TEST_F(PolicyTest, NothingIsDecidedBeforeEveryListIsComplete) {
  domain_.maps.contents.addresses[ip("10.0.1.9")] = 7;
  domain_.own_with_endpoint(web());
  domain_.start();
  domain_.policies.writer("api").set_complete();
  domain_.namespaces.writer("api").set_complete();
  domain_.pods.writer("api").set_complete();
  domain_.endpoints.writer("network").set_complete();
  domain_.turn();
  EXPECT_EQ(domain_.row("shop/web"), nullptr);
  EXPECT_EQ(domain_.maps.writes, 0U);
  EXPECT_EQ(domain_.ask("policy.sync").value()["missing"], Json({"PeerPod"}));
  domain_.peers.writer("api").set_complete();
  domain_.turn();
  ASSERT_NE(domain_.row("shop/web"), nullptr);
  EXPECT_EQ(domain_.row("shop/web")->ingress_rules, 0U);
  EXPECT_FALSE(domain_.maps.contents.addresses.contains(ip("10.0.1.9")));
  EXPECT_EQ(domain_.ask("policy.sync").value()["synced"], true);
}

TEST_F(PolicyTest, APodWithEqualRulesSharesThemAndOthersAreLeftAlone) {
  domain_.own_with_endpoint(web());
  domain_.own_with_endpoint(client("web2", "web", "10.0.1.3"));
  domain_.own_with_endpoint(client("db", "db", "10.0.1.4"));
  domain_.peer(client("good", "good", "10.0.2.1"));
  domain_.peer(client("bad", "bad", "10.0.2.2"));
  domain_.policy(
      "shop/one",
      "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: good}}}], "
      "ports: [{port: 80}, {port: 81, endPort: 90}]}]}");
  run();
  const auto rules = domain_.row("shop/web")->ingress_rules;
  EXPECT_NE(rules, 0U);
  EXPECT_EQ(domain_.row("shop/web2")->ingress_rules, rules);
  EXPECT_EQ(domain_.row("shop/db")->ingress_rules, 0U);
  EXPECT_EQ(domain_.row("shop/web")->egress_rules, 0U);
  EXPECT_TRUE(domain_.ingress("shop/web", ip("10.0.2.1"), kTcp, 90));
  EXPECT_FALSE(domain_.ingress("shop/web", ip("10.0.2.1"), kTcp, 91));
  EXPECT_FALSE(domain_.ingress("shop/web", ip("10.0.2.1"), kUdp, 80));
  EXPECT_FALSE(domain_.ingress("shop/web", ip("10.0.2.2"), kTcp, 80));
  EXPECT_TRUE(domain_.ingress("shop/web", ip("172.16.0.1"), kTcp, 1)) << "its own node";
  ASSERT_EQ(domain_.maps.contents.rules.at(rules).peers.size(), 1U);
  EXPECT_THAT(domain_.maps.contents.rules.at(rules).peers.begin()->second,
              ElementsAre(datapath::PortRange{kTcp, 80, 90}));

  // A peer that loses its label: the pods that let it in are judged again, others are not.
  domain_.peer(client("good", "bad", "10.0.2.1"));
  domain_.turn();
  EXPECT_FALSE(domain_.ingress("shop/web", ip("10.0.2.1"), kTcp, 80));
  EXPECT_EQ(domain_.row("shop/web")->revision, 2U);
  EXPECT_EQ(domain_.row("shop/web")->ingress_rules, rules);
  EXPECT_EQ(domain_.row("shop/db")->revision, 1U);
  // One that gets it: nobody.
  domain_.peer(client("bad", "good", "10.0.2.2"));
  domain_.turn();
  EXPECT_TRUE(domain_.ingress("shop/web", ip("10.0.2.2"), kTcp, 80));
  EXPECT_EQ(domain_.row("shop/web")->revision, 2U);
}

TEST_F(PolicyTest, APodKeepsItsPolicyWhileItEnds) {
  domain_.own_with_endpoint(web());
  domain_.policy("shop/deny", "{podSelector: {}}");
  run();
  const auto rules = domain_.row("shop/web")->ingress_rules;
  EXPECT_NE(rules, 0U);
  domain_.pods.writer("api").erase("shop/web");
  domain_.turn();
  ASSERT_NE(domain_.row("shop/web"), nullptr);
  EXPECT_EQ(domain_.row("shop/web")->ingress_rules, rules);
  domain_.endpoints.writer("network").erase("c-shop/web");
  domain_.turn();
  EXPECT_EQ(domain_.row("shop/web"), nullptr);
  EXPECT_TRUE(domain_.maps.contents.rules.empty());
}

TEST_F(PolicyTest, ARowComesBeforeThePodHasAnAddress) {
  domain_.policy("shop/deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
  run();
  domain_.own(web());
  domain_.turn();
  ASSERT_NE(domain_.row("shop/web"), nullptr);
  EXPECT_FALSE(domain_.ingress("shop/web", ip("192.0.2.1"), kTcp, 80));
  EXPECT_FALSE(domain_.egress("shop/web", ip("192.0.2.1"), kTcp, 80));
  EXPECT_TRUE(domain_.egress("shop/web", ip("172.16.0.1"), kTcp, 80));
}

TEST_F(PolicyTest, AFullMapKeepsTheOldPolicyAndIsTold) {
  domain_.own_with_endpoint(web());
  domain_.peer(client("a", "a", "10.0.2.1"));
  domain_.peer(client("b", "b", "10.0.2.2"));
  const std::string one = "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]}";
  domain_.policy("shop/p", one);
  run();
  const auto old = domain_.row("shop/web")->ingress_rules;
  domain_.maps.peer_room = 2;
  domain_.policy("shop/p",
                 "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}, "
                 "{ports: [{port: 80}], from: [{podSelector: {}}]}]}");
  domain_.turn();
  EXPECT_EQ(domain_.row("shop/web")->ingress_rules, old);
  EXPECT_TRUE(domain_.ingress("shop/web", ip("10.0.2.1"), kTcp, 1));
  EXPECT_THAT(failing().value("Pod shop/web", ""), HasSubstr("ingress: map pol_peers is full"));
  // A label change of a peer that finds no room does not make the peer anybody else either.
  domain_.peer(client("a", "c", "10.0.2.1"));
  domain_.turn();
  domain_.maps.peer_room = 100;
  domain_.policy("shop/other", "{podSelector: {matchLabels: {app: nobody}}}");
  domain_.peer(client("b", "b", "10.0.2.3"));  // anything that changes tries again what failed
  domain_.turn();
  EXPECT_NE(domain_.row("shop/web")->ingress_rules, old);
  EXPECT_TRUE(domain_.ingress("shop/web", ip("10.0.2.3"), kTcp, 1));
  EXPECT_TRUE(domain_.ingress("shop/web", ip("10.0.2.1"), kTcp, 80));
  EXPECT_FALSE(domain_.ingress("shop/web", ip("10.0.2.1"), kTcp, 1));
  EXPECT_EQ(failing(), Json::object());
}

TEST_F(PolicyTest, BlocksThatDoNotAllFitAreNotInForceAtAll) {
  domain_.own_with_endpoint(web());
  run();
  domain_.maps.cidr_room = 1;
  domain_.policy("shop/p",
                 "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 192.0.2.0/24, except: "
                 "[192.0.2.128/25]}}]}], policyTypes: [Egress]}");
  domain_.turn();
  EXPECT_EQ(domain_.row("shop/web")->egress_rules, 0U);
  EXPECT_THAT(failing().value("cidrs", ""), HasSubstr("full"));
  EXPECT_THAT(failing().value("Pod shop/web", ""), HasSubstr("ipBlocks"));
  domain_.maps.cidr_room = 2;
  domain_.peer(client("a", "a", "10.0.2.1"));
  domain_.turn();
  EXPECT_TRUE(domain_.egress("shop/web", ip("192.0.2.1"), kTcp, 80));
  EXPECT_FALSE(domain_.egress("shop/web", ip("192.0.2.129"), kTcp, 80));
}

TEST_F(PolicyTest, ALongListOfBlocksIsOnePeer) {
  constexpr int kBlocks = 10'000;
  domain_.own_with_endpoint(web());
  run();
  k8s::NetworkPolicy policy;
  policy.mutable_metadata()->set_namespace_("shop");
  policy.mutable_metadata()->set_name("long");
  policy.mutable_spec()->mutable_podselector();
  policy.mutable_spec()->add_policytypes("Egress");
  auto& rule = *policy.mutable_spec()->add_egress();
  for (int i = 0; i < kBlocks; ++i) {
    rule.add_to()->mutable_ipblock()->set_cidr(fmt::format("100.{}.{}.0/24", i / 250, i % 250));
  }
  domain_.policy("shop/long", policy);
  domain_.turn();
  EXPECT_EQ(domain_.maps.contents.cidrs.size(), static_cast<std::size_t>(kBlocks));
  EXPECT_EQ(domain_.maps.contents.rules.at(domain_.row("shop/web")->egress_rules).peers.size(), 1U);
  EXPECT_TRUE(domain_.egress("shop/web", ip("100.39.249.7"), kTcp, 80));
  EXPECT_FALSE(domain_.egress("shop/web", ip("100.40.0.1"), kTcp, 80));
}

// The numbers of an earlier agent mean nothing until they are seen to mean the same.
TEST_F(PolicyTest, WhatAnEarlierAgentLeftIsReplacedNotReused) {
  domain_.own_with_endpoint(web());
  domain_.peer(client("a", "a", "10.0.2.1"));
  domain_.policy("shop/p", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]}");
  domain_.maps.contents.addresses[ip("10.0.2.1")] = 40;
  domain_.maps.contents.addresses[ip("10.0.2.2")] = 40;
  domain_.maps.contents.rules[1].peers[40] = {{kTcp, 1, 1}};
  run();
  EXPECT_NE(domain_.row("shop/web")->ingress_rules, 1U);
  EXPECT_GT(domain_.maps.contents.addresses.at(ip("10.0.2.1")), 40U);
  EXPECT_FALSE(domain_.maps.contents.addresses.contains(ip("10.0.2.2")));
  EXPECT_FALSE(domain_.maps.contents.rules.contains(1));
  EXPECT_TRUE(domain_.ingress("shop/web", ip("10.0.2.1"), kTcp, 9));
}

TEST_F(PolicyTest, TellsRulesAndTraces) {
  domain_.own_with_endpoint(web());
  domain_.own_with_endpoint(client("job", "job", "10.0.1.5"));
  domain_.peer(client("good", "good", "10.0.2.1"));
  domain_.policy("shop/web",
                 "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: "
                 "{app: good}}}, {ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}], ports: "
                 "[{port: 80}, {port: http}]}]}");
  run();
  const Json shown = domain_.ask("policy.get", {{"namespace", "shop"}, {"name", "web"}}).value();
  EXPECT_EQ(shown["in_force"], true);
  EXPECT_EQ(shown["ingress"]["policies"], Json({"shop/web"}));
  EXPECT_EQ(shown["ingress"]["rules"][0], (Json{{"policy", "shop/web"},
                                                {"rule", "ingress[0]"},
                                                {"peers", {"app=good in shop", "192.0.2.0/24 except 192.0.2.128/25"}},
                                                {"ports", {"80/TCP", "http/TCP"}}}));
  EXPECT_EQ(shown["egress"]["isolated"], false);

  const auto trace = [&](const char* from, const char* to, const char* port) {
    return domain_.ask("policy.trace", {{"from", from}, {"to", to}, {"port", port}});
  };
  const Json good = trace("shop/good", "shop/web", "80/tcp").value();
  EXPECT_EQ(good["allowed"], true);
  EXPECT_EQ(good["egress"]["judged"], false);
  EXPECT_EQ(good["ingress"]["why"], "allowed by shop/web ingress[0]");
  const Json bad = trace("shop/job", "shop/web", "80/TCP").value();
  EXPECT_EQ(bad["allowed"], false);
  EXPECT_EQ(bad["egress"]["why"], "no policy isolates it");
  EXPECT_EQ(bad["ingress"]["why"], "no rule allows it");
  EXPECT_EQ(trace("192.0.2.1", "shop/web", "80").value()["allowed"], true);
  EXPECT_EQ(trace("192.0.2.200", "shop/web", "80/TCP").value()["allowed"], false);
  EXPECT_EQ(trace("172.16.0.1", "10.0.1.2", "9/UDP").value()["ingress"]["why"], "the pod's own node is always allowed");
  for (const auto& [from, to, port, words] : {std::tuple{"shop/none", "shop/web", "80/TCP", "from: no pod shop/none"},
                                              std::tuple{"shop/job", "shop/web", "80/ICMP", "port: \"80/ICMP\""},
                                              std::tuple{"shop/job", "", "80/TCP", "to: want"}}) {
    const auto refused = trace(from, to, port);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), HasSubstr(words));
  }
  EXPECT_FALSE(domain_.ask("policy.get", {{"namespace", "shop"}, {"name", "good"}})) << "not of this node";
}

}  // namespace
}  // namespace fairlead::policy
