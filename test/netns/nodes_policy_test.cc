// SPDX-License-Identifier: Apache-2.0
// Policy across two nodes with a real API server, natively routed and through the tunnel: peers are known by identity
// wherever they run, a Service's backends are judged, and each side on its own node.
//
//      friend, stranger, other/visitor ─ n1 ── lan ── n2 ─ web, near
#include <gtest/gtest.h>

#include "test/netns/policy_bed.h"
#include "test/netns/probes.h"

namespace fairlead {
namespace {

using namespace std::chrono_literals;
using testkit::Datagrams;
using testkit::Endpoint;
using testkit::eventually;
using testkit::kNodePort;
using testkit::kPodPort;
using testkit::PodNetns;
using testkit::PolicyBed;
using testkit::Stream;

constexpr std::uint16_t kServicePort = 80;
constexpr auto kFriends = R"({podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress],
  ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}], ports: [{port: http}, {port: 8080, protocol: UDP}]}]})";

std::string why(const auto& result) {
  return result ? std::string() : result.error().message();
}

template <class Task>
auto in(const PodNetns& where, Task task) {
  std::optional<decltype(task())> out;
  where.run([&] { out.emplace(task()); });
  return std::move(*out);
}

struct Native {
  static constexpr auto kName = "policy-native";
  static constexpr auto kTunnel = "--tunnel=none";
};
struct Vxlan {
  static constexpr auto kName = "policy-vxlan";
  static constexpr auto kTunnel = "--tunnel=vxlan";
};

template <class Mode>
class NodesPolicy : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    static const auto entered = testkit::enter_node_namespace("nodes-policy");
    ASSERT_TRUE(entered) << why(entered);
    auto made = PolicyBed::make(Mode::kName, {Mode::kTunnel});
    ASSERT_TRUE(made) << why(made);
    bed = std::move(*made);
    ASSERT_TRUE(bed->create_namespace("other"));
    for (const auto& [node, key, app] : {std::tuple{1U, "default/friend", "friend"},
                                         {1U, "default/stranger", "stranger"},
                                         {1U, "other/visitor", "friend"},
                                         {2U, "default/web", "web"},
                                         {2U, "default/near", "friend"}}) {
      const auto added = bed->add_pod(node, key, {{"app", app}}, {{"http", "TCP", kPodPort}});
      ASSERT_TRUE(added) << key << ": " << why(added);
    }
    const auto served = bed->add_service("web", services(), kServicePort, {"default/web"});
    ASSERT_TRUE(served) << why(served);
    for (const unsigned node : {1U, 2U}) {
      ASSERT_TRUE(eventually([&] { return bed->node(node).ctl("service list").size() >= 1; }));
    }
  }
  static void TearDownTestSuite() { bed.reset(); }
  void SetUp() override { ASSERT_NE(bed, nullptr) << "the bed is not whole"; }
  void TearDown() override {
    for (const std::string& key : policies_) EXPECT_TRUE(bed->delete_policy(key));
  }

  static std::vector<IpAddress> services() {
    return {IpAddress::parse("10.96.0.80").value(), IpAddress::parse("fd00:96::80").value()};
  }
  static const PodNetns& netns(const std::string& key) { return bed->pod(key).netns(); }
  static Endpoint at(const std::string& key, Family family) { return {bed->pod(key).address(family), kPodPort}; }
  static Endpoint service(Family family) { return {services()[family == Family::kV4 ? 0 : 1], kServicePort}; }
  void apply(const std::string& key, const std::string& spec) {
    const auto applied = bed->apply_policy(key, spec);
    ASSERT_TRUE(applied) << why(applied);
    policies_.insert(key);
  }
  static std::uint64_t denials() {
    std::uint64_t sum = 0;
    for (const unsigned node : {1U, 2U}) {
      for (const char* reason : {"policy_ingress", "policy_egress"}) sum += bed->drops(node, reason);
    }
    return sum;
  }

  // By TCP and by UDP, at once and each time. What is denied is counted as such.
  static void expect(const PodNetns& from, const Endpoint& to, bool allowed, const std::string& what) {
    const std::uint64_t before = denials();
    auto datagrams = Datagrams::make(from, to);
    ASSERT_TRUE(datagrams) << why(datagrams);
    const bool answered = datagrams->answered(allowed ? 5s : 300ms);
    EXPECT_EQ(answered, allowed) << what << ": UDP to " << to_string(to);
    const auto stream = in(from, [&] { return Stream::connect(to, 0, allowed ? 10s : 1s); });
    EXPECT_EQ(stream.has_value(), allowed) << what << ": TCP to " << to_string(to) << " " << why(stream);
    if (!allowed) {
      EXPECT_GE(denials(), before + 2) << what << ": dropped for another reason";
    }
  }
  static void expect(const std::string& from, const Endpoint& to, bool allowed) {
    expect(netns(from), to, allowed, from);
  }

  static constexpr Family kFamilies[] = {Family::kV4, Family::kV6};
  static inline std::unique_ptr<PolicyBed> bed;
  std::set<std::string> policies_;
};

using Modes = testing::Types<Native, Vxlan>;
TYPED_TEST_SUITE(NodesPolicy, Modes);

TYPED_TEST(NodesPolicy, APodIsReachedByWhomItsPolicyNamesWhereverTheyRun) {
  this->apply("default/web", kFriends);
  ASSERT_TRUE(this->bed->says("default/friend", "default/web", "8080/TCP", true));
  ASSERT_TRUE(this->bed->says("default/stranger", "default/web", "8080/TCP", false));
  for (const Family family : this->kFamilies) {
    for (const Endpoint& to : {this->at("default/web", family), this->service(family)}) {
      this->expect("default/friend", to, true);
      this->expect("default/near", to, true);
      this->expect("default/stranger", to, false);
      this->expect("other/visitor", to, false);
    }
    this->expect(this->bed->node(2).netns(), this->at("default/web", family), true, "its own node");
    this->expect(this->bed->node(1).netns(), this->at("default/web", family), false, "another node");
    this->expect("default/web", this->at("default/stranger", family), true);
  }
}

TYPED_TEST(NodesPolicy, ALabelThatChangesOnAnotherNodeCounts) {
  this->apply("default/web", kFriends);
  ASSERT_TRUE(this->bed->says("default/stranger", "default/web", "8080/TCP", false));
  ASSERT_TRUE(this->bed->set_labels("default/stranger", {{"app", "friend"}}));
  ASSERT_TRUE(this->bed->says("default/stranger", "default/web", "8080/TCP", true));
  std::vector<Stream> open;
  for (const Family family : this->kFamilies) {
    this->expect("default/stranger", this->at("default/web", family), true);
    auto stream = in(this->netns("default/stranger"), [&] { return Stream::connect(this->service(family), 0, 1s); });
    ASSERT_TRUE(stream) << why(stream);
    ASSERT_TRUE(stream->exchange(1000));
    open.push_back(std::move(*stream));
  }
  ASSERT_TRUE(this->bed->set_labels("default/stranger", {{"app", "stranger"}}));
  ASSERT_TRUE(this->bed->says("default/stranger", "default/web", "8080/TCP", false));
  for (const Family family : this->kFamilies) this->expect("default/stranger", this->at("default/web", family), false);
  for (Stream& stream : open) EXPECT_FALSE(stream.exchange(10)) << "an open connection goes on";
}

TYPED_TEST(NodesPolicy, BlocksOfAddressesHoldAcrossNodes) {
  const auto host = [&](const std::string& key, Family family) {
    return Cidr::host(this->bed->pod(key).address(family));
  };
  this->apply("default/web",
              fmt::format(R"({{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Ingress], ingress: [{{from: [
        {{ipBlock: {{cidr: 10.244.1.0/24, except: [{}]}}}}, {{ipBlock: {{cidr: "fd00:244:1::/64", except: ["{}"]}}}},
        {{ipBlock: {{cidr: 192.0.2.11/32}}}}]}}]}})",
                          host("default/stranger", Family::kV4), host("default/stranger", Family::kV6)));
  ASSERT_TRUE(this->bed->says("default/friend", "default/web", "8080/TCP", true));
  ASSERT_TRUE(this->bed->says("default/stranger", "default/web", "8080/TCP", false));
  for (const Family family : this->kFamilies) {
    this->expect("default/friend", this->at("default/web", family), true);
    this->expect("other/visitor", this->at("default/web", family), true);
    this->expect("default/stranger", this->at("default/web", family), false);
    this->expect("default/near", this->at("default/web", family), false);
  }
  this->expect(this->bed->node(1).netns(), this->at("default/web", Family::kV4), true, "a node that a block names");
  this->expect(this->bed->node(1).netns(), this->at("default/web", Family::kV6), false, "and its other address");
}

TYPED_TEST(NodesPolicy, WhatAPodMayReachIsJudgedBehindTheService) {
  this->apply("default/friend", R"({podSelector: {matchLabels: {app: friend}}, policyTypes: [Egress], egress: [
    {to: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: http}, {port: 8080, protocol: UDP}]},
    {to: [{ipBlock: {cidr: 198.51.100.2/32}}]}]})");
  ASSERT_TRUE(this->bed->says("default/friend", "default/web", "8080/TCP", true));
  ASSERT_TRUE(this->bed->says("default/friend", "default/near", "8080/TCP", false));
  for (const Family family : this->kFamilies) {
    this->expect("default/friend", this->at("default/web", family), true);
    this->expect("default/friend", this->service(family), true);
    this->expect("default/friend", this->at("default/near", family), false);
    this->expect("default/friend", this->at("default/stranger", family), false);
    this->expect("default/stranger", this->at("default/friend", family), true);
    this->expect("default/friend", {this->bed->node(1).address(family), kNodePort}, true);
    this->expect("default/friend", {this->bed->node(2).address(family), kNodePort}, false);
  }
  this->expect("default/friend", {this->bed->bed().world().address(Family::kV4), kPodPort}, true);
  this->expect("default/friend", {this->bed->bed().world().address(Family::kV6), kPodPort}, false);
}

}  // namespace
}  // namespace fairlead
