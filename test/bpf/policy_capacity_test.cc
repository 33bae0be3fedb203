// SPDX-License-Identifier: Apache-2.0
// What fits into real policy maps: 16,000 identities, 1,000 policies and a CIDR list of 10,000 entries at once; and one
// more than fits, of each kind, keeps the old policy in force and is told.
#include <gmock/gmock.h>

#include "agent/datapath/bpf_policy_maps.h"
#include "agent/observe/status.h"
#include "test/kit/data_path.h"
#include "test/kit/netns.h"
#include "test/unit/policy/domain.h"

namespace fairlead::policy {
namespace {

using testing::HasSubstr;

constexpr unsigned kPeers = 16'000;
constexpr unsigned kPolicies = 1'000;
constexpr unsigned kBlocks = 10'000;
constexpr unsigned kGroups = 100;  // of peers; a policy lets one in
constexpr std::uint8_t kTcp = 6;

IpAddress peer_v4(unsigned number) {
  return IpAddress::from_v4(
      {10, 1, static_cast<std::uint8_t>(number / 250), static_cast<std::uint8_t>(1 + number % 250)});
}

class PolicyCapacity : public testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(testkit::enter_node_namespace("policy-capacity")); }
  void open(const std::string& name, const datapath::PolicyCapacities& room) {
    auto path = testkit::DataPath::open(name, {.connections = 64, .translated = 64, .services = {}, .policy = room});
    ASSERT_TRUE(path) << path.error().message();
    path_ = std::move(*path);
    maps_ = datapath::BpfPolicyMaps::open(path_->pods()).value();
    domain_.emplace(Duration::zero(), maps_.get());
  }
  void run() {
    domain_->complete();
    domain_->start();
  }
  void TearDown() override { close(); }
  void close() {
    domain_.reset();
    maps_.reset();
    if (path_) {
      EXPECT_TRUE(path_->root().clear());
    }
    path_.reset();
  }
  bool reaches(const std::string& uid, const IpAddress& from, std::uint16_t port) const {
    const datapath::PolicyContents there = maps_->read().value();
    return allows(there, domain_->row(uid)->ingress_rules, identity_of(there, from), kTcp, port);
  }

  std::unique_ptr<testkit::DataPath> path_;
  std::unique_ptr<datapath::BpfPolicyMaps> maps_;
  std::optional<Domain> domain_;
};

TEST_F(PolicyCapacity, WhatIsPromisedFits) {
  ASSERT_NO_FATAL_FAILURE(open("promised", {}));
  for (unsigned i = 0; i < kPeers; ++i) {
    domain_->peer(Domain::pod(fmt::format("shop/peer-{}", i),
                              {{"id", std::to_string(i)}, {"group", std::to_string(i % kGroups)}},
                              {peer_v4(i), ip(fmt::format("fd00:1::{:x}", i + 1))}));
  }
  // Each policy is of one pod, and no two have the same rules.
  for (unsigned i = 0; i < kPolicies; ++i) {
    const std::string name = fmt::format("shop/own-{}", i);
    domain_->own_with_endpoint(Domain::pod(
        name, {{"own", std::to_string(i)}},
        {IpAddress::from_v4({10, 2, static_cast<std::uint8_t>(i / 250), static_cast<std::uint8_t>(1 + i % 250)})}));
    domain_->policy(name,
                    fmt::format("{{podSelector: {{matchLabels: {{own: '{}'}}}}, ingress: [{{from: [{{podSelector: "
                                "{{matchLabels: {{group: '{}'}}}}}}], ports: [{{port: {}}}]}}]}}",
                                i, i % kGroups, 1000 + i));
  }
  k8s::NetworkPolicy blocks;
  blocks.mutable_metadata()->set_namespace_("shop");
  blocks.mutable_metadata()->set_name("blocks");
  (*blocks.mutable_spec()->mutable_podselector()->mutable_matchlabels())["own"] = "7";
  auto& rule = *blocks.mutable_spec()->add_ingress();
  for (unsigned i = 0; i < kBlocks; ++i) {
    rule.add_from()->mutable_ipblock()->set_cidr(fmt::format("100.{}.{}.0/24", i / 250, i % 250));
  }
  domain_->policy("shop/blocks", blocks);
  run();
  const Json state = domain_->settle();
  EXPECT_EQ(state["failing"], Json::object());
  EXPECT_EQ(state["policies"], kPolicies + 1);
  EXPECT_EQ(state["rule_sets"], kPolicies);
  EXPECT_GE(state["identities"], kPeers + kPolicies);
  EXPECT_EQ(domain_->gauge("fairlead_policy_failing"), 0);
  const datapath::PolicyContents there = maps_->read().value();
  EXPECT_GE(there.addresses.size(), 2U * kPeers + kPolicies);
  EXPECT_EQ(there.cidrs.size(), kBlocks);
  const auto verdict = [&](unsigned own, const IpAddress& from, std::uint16_t port) {
    return allows(there, domain_->row(fmt::format("shop/own-{}", own))->ingress_rules, identity_of(there, from), kTcp,
                  port);
  };
  for (unsigned i = 0; i < kPolicies; ++i) {
    const unsigned friend_of = i % kGroups + kGroups * (i % (kPeers / kGroups));
    const auto port = static_cast<std::uint16_t>(1000 + i);
    EXPECT_TRUE(verdict(i, peer_v4(friend_of), port)) << i;
    EXPECT_TRUE(verdict(i, ip(fmt::format("fd00:1::{:x}", friend_of + 1)), port)) << i;
    EXPECT_FALSE(verdict(i, peer_v4(friend_of), 999)) << i;
    EXPECT_FALSE(verdict(i, peer_v4((friend_of + 1) % kPeers), port)) << i;
  }
  for (unsigned i = 0; i < kBlocks; i += 97) {
    EXPECT_TRUE(verdict(
        7, IpAddress::from_v4({100, static_cast<std::uint8_t>(i / 250), static_cast<std::uint8_t>(i % 250), 9}), 1))
        << i;
  }
  EXPECT_FALSE(verdict(7, ip("100.40.0.1"), 1));
}

struct Full {
  const char* map;  // named by the condition
  datapath::PolicyCapacities room;
  std::string old_spec, new_spec;
  std::pair<const char*, std::uint16_t> old_friend, new_friend;  // address and port that only that one lets in
};

// Peers a, b, c, d are friends of the policy one by one; its blocks likewise.
TEST_F(PolicyCapacity, OneMoreThanFitsKeepsTheOldInForceAndIsTold) {
  const auto of_apps = [](const std::vector<std::string>& apps, int port) {
    std::string rules;
    for (const std::string& app : apps) {
      rules += fmt::format("{}{{from: [{{podSelector: {{matchLabels: {{app: {}}}}}}}], ports: [{{port: {}}}]}}",
                           rules.empty() ? "" : ", ", app, port);
    }
    return "{podSelector: {matchLabels: {app: web}}, ingress: [" + rules + "]}";
  };
  const auto of_blocks = [](unsigned count) {
    std::string peers;
    for (unsigned i = 0; i < count; ++i)
      peers += fmt::format("{}{{ipBlock: {{cidr: 192.0.{}.0/24}}}}", i ? ", " : "", i);
    return "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [" + peers + "]}]}";
  };
  std::string many;  // ranges that do not touch, one more than an entry has room for
  for (int i = 0; i < 17; ++i) many += fmt::format("{}{{port: {}}}", i ? ", " : "", 100 + 2 * i);
  const Full cases[] = {{"pol_peers",
                         {.addresses = 64, .cidrs = 4, .peers = 3},
                         of_apps({"a", "b"}, 80),
                         of_apps({"b", "c", "d"}, 81),
                         {"10.0.2.97", 80},
                         {"10.0.2.99", 81}},
                        {"pol_cidr4",
                         {.addresses = 64, .cidrs = 4, .peers = 16},
                         of_blocks(1),
                         of_blocks(5),
                         {"192.0.0.9", 1},
                         {"192.0.4.9", 1}},
                        {"room for",
                         {.addresses = 64, .cidrs = 4, .peers = 16},
                         of_apps({"a"}, 80),
                         "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [" + many + "]}]}",
                         {"10.0.2.97", 80},
                         {"10.0.2.97", 100}}};
  for (const Full& each : cases) {
    SCOPED_TRACE(each.map);
    ASSERT_NO_FATAL_FAILURE(open("full", each.room));
    domain_->own_with_endpoint(Domain::pod("shop/web", {{"app", "web"}}, {ip("10.0.1.2")}));
    domain_->own_with_endpoint(Domain::pod("shop/other", {{"app", "other"}}, {ip("10.0.1.3")}));
    for (const char* app : {"a", "b", "c", "d"}) {
      domain_->peer(Domain::pod(std::string("shop/") + app, {{"app", app}},
                                {IpAddress::from_v4({10, 0, 2, static_cast<std::uint8_t>(app[0])})}));
    }
    domain_->policy("shop/web", each.old_spec);
    run();
    ASSERT_EQ(domain_->settle()["failing"], Json::object());
    const auto before = *domain_->row("shop/web");
    const auto expect_old = [&] {
      EXPECT_TRUE(reaches("shop/web", ip(each.old_friend.first), each.old_friend.second));
      EXPECT_FALSE(reaches("shop/web", ip(each.new_friend.first), each.new_friend.second));
    };
    expect_old();

    domain_->policy("shop/web", each.new_spec);
    domain_->turn();
    const Json state = domain_->settle();
    EXPECT_EQ(*domain_->row("shop/web"), before) << "its rules, and its open connections";
    expect_old();
    EXPECT_GT(domain_->gauge("fairlead_policy_failing"), 0);
    const observe::Status status = observe::aggregate({{"policy", Result<Json>(state)}});
    EXPECT_FALSE(status.synced);
    ASSERT_TRUE(status.failing.contains("policy: Pod shop/web")) << state;
    EXPECT_THAT(state["failing"].dump(), HasSubstr(each.map));
    // Others' policies go on to change.
    domain_->policy("shop/other", "{podSelector: {matchLabels: {app: other}}}");
    domain_->turn();
    EXPECT_NE(domain_->row("shop/other")->ingress_rules, 0U);

    // There is room again once less is wanted.
    domain_->policy("shop/web", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 7}]}]}");
    domain_->turn();
    EXPECT_EQ(domain_->settle()["failing"], Json::object());
    EXPECT_EQ(domain_->gauge("fairlead_policy_failing"), 0);
    EXPECT_TRUE(reaches("shop/web", ip("10.0.2.97"), 7));
    EXPECT_FALSE(reaches("shop/web", ip("10.0.2.97"), 80));
    close();
  }
}

// A pod whose address finds no room is known to no rule: it is let in nowhere by its labels, and that is told.
TEST_F(PolicyCapacity, APeerThatFindsNoRoomIsNobodysFriend) {
  ASSERT_NO_FATAL_FAILURE(open("addresses", {.addresses = 4, .cidrs = 4, .peers = 16}));  // the node's, web's, two more
  domain_->own_with_endpoint(Domain::pod("shop/web", {{"app", "web"}}, {ip("10.0.1.2")}));
  for (const char* address : {"10.0.2.1", "10.0.2.2"}) {
    domain_->peer(Domain::pod(fmt::format("shop/{}", address), {{"app", "a"}}, {ip(address)}));
  }
  domain_->policy(
      "shop/web",
      "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]}");
  run();
  ASSERT_EQ(domain_->settle()["failing"], Json::object());
  domain_->peer(Domain::pod("shop/late", {{"app", "a"}}, {ip("10.0.2.3")}));
  domain_->turn();
  const Json failing = domain_->settle()["failing"];
  EXPECT_THAT(failing.value("address 10.0.2.3", ""), HasSubstr("pol_id4"));
  EXPECT_EQ(domain_->gauge("fairlead_policy_failing"), 1);
  EXPECT_TRUE(reaches("shop/web", ip("10.0.2.1"), 80));
  EXPECT_TRUE(reaches("shop/web", ip("10.0.2.2"), 80));
  EXPECT_FALSE(reaches("shop/web", ip("10.0.2.3"), 80));
  domain_->peers.writer("api").erase("shop/10.0.2.1");
  domain_->turn();
  EXPECT_EQ(domain_->settle()["failing"], Json::object());
  EXPECT_TRUE(reaches("shop/web", ip("10.0.2.3"), 80));
}

}  // namespace
}  // namespace fairlead::policy
