// SPDX-License-Identifier: Apache-2.0
// Policy in force on pods with real sockets: before the first packet, under open connections, over an agent's restart.
#include <sys/socket.h>

#include "agent/datapath/bpf_policy_maps.h"
#include "agent/netlink/socket.h"
#include "test/kit/process.h"
#include "test/netns/pod_network_fixture.h"
#include "test/netns/probes.h"

namespace fairlead::network {
namespace {

using testkit::Endpoint;
using testkit::eventually;
using testkit::Flood;
using testkit::PodNetns;
using testkit::Sink;

constexpr auto kDual = "10.1.0.0/24,fd00:1::/120";
constexpr std::uint16_t kProbed = 7777;  // beside the port of connect_tcp()
constexpr datapath::RuleSetId kNothing = 3;
constexpr datapath::RuleSetId kFriends = 4;
constexpr datapath::Identity kFriend = 30;

IpAddress ip(const std::string& text) {
  return IpAddress::parse(text).value();
}

struct Pod {
  std::string name;
  PodNetns netns;
  std::vector<IpAddress> addresses;
};

class PolicyNetwork : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(testkit::enter_node_namespace("policy"));
    auto socket = netlink::Socket::open().value();
    const std::uint32_t loopback = socket.find_link("lo").value().ifindex;
    ASSERT_TRUE(socket.add_address(loopback, ip("10.0.0.1")));
    ASSERT_TRUE(socket.add_address(loopback, ip("fd00:ffff::1")));
  }

  void SetUp() override {
    restart();
    ASSERT_TRUE(maps_->put_rules(kNothing, {}));
    ASSERT_TRUE(maps_->put_rules(kFriends, {}));
    ASSERT_TRUE(maps_->allow(kFriends, kFriend, {datapath::PortRange{}}));
  }
  void TearDown() override {
    const Json left = node_->ask("endpoint.list", {}).value();
    for (const Json& endpoint : left) EXPECT_TRUE(node_->ask("cni.del", endpoint));
    // The next test's pods get the same addresses.
    const auto contents = maps_->read();
    ASSERT_TRUE(contents) << contents.error().message();
    for (const auto& [address, identity] : contents->addresses) EXPECT_TRUE(maps_->erase_identity(address));
    maps_.reset();
    node_.reset();
    std::filesystem::remove(testkit::folder() + "/ipam.json");
  }

  // Another agent over the same maps and pods; of policy it knows nothing yet.
  void restart() {
    maps_.reset();
    node_.reset();
    node_ = std::make_unique<Node>(kDual, sockets_, false, "", false, true);
    ASSERT_TRUE(node_->started) << node_->started.error().message();
    maps_ = datapath::BpfPolicyMaps::open(*node_->programs).value();
    rows_.emplace(node_->policy_table.writer("policy"));
    rows_->set_complete();
  }

  void rule(const std::string& pod, datapath::RuleSetId ingress, datapath::RuleSetId egress) {
    rows_->upsert("uid-" + pod, model::PodPolicy{{"default", pod, "uid-" + pod}, ingress, egress, ++revision_});
  }
  // The rules are in the maps once the network domain has been asked something after them.
  void rule_now(const std::string& pod, datapath::RuleSetId ingress, datapath::RuleSetId egress) {
    rule(pod, ingress, egress);
    ASSERT_TRUE(node_->ask("endpoint.list", {}));
  }
  Result<Json> add(Pod& pod) {
    auto added = node_->ask("cni.add", {{"container", pod.name},
                                        {"ifname", "eth0"},
                                        {"netns", pod.netns.path()},
                                        {"podNamespace", "default"},
                                        {"podName", pod.name},
                                        {"podUid", "uid-" + pod.name},
                                        {"cniVersion", "1.0.0"}});
    if (!added) return added;
    for (const Json& address : (*added)["ips"]) {
      pod.addresses.push_back(Cidr::parse(address["address"].get<std::string>()).value().base());
    }
    return added;
  }
  Pod make(const std::string& name, datapath::RuleSetId ingress = 0, datapath::RuleSetId egress = 0) {
    Pod pod{name, PodNetns::make(name).value(), {}};
    rule(name, ingress, egress);
    const auto added = add(pod);
    EXPECT_TRUE(added) << added.error().message();
    return pod;
  }
  void befriend(const Pod& pod) {
    for (const IpAddress& address : pod.addresses) ASSERT_TRUE(maps_->set_identity(address, kFriend));
  }

  FakeSocketClients sockets_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<datapath::BpfPolicyMaps> maps_;
  std::optional<TableWriter<model::PodPolicy>> rows_;
  std::uint64_t revision_ = 0;
};

TEST_F(PolicyNetwork, AnOpenConnectionFollowsWhatItsPodsRulesSay) {
  const Pod a = make("a");
  const Pod b = make("b", kFriends);
  befriend(a);
  for (std::size_t family = 0; family < 2; ++family) {
    auto connection = connect_tcp(&a.netns, &b.netns, b.addresses[family]);
    ASSERT_TRUE(connection);
    const std::uint64_t before = node_->packets("policy_ingress");
    rule_now("b", kNothing, 0);
    EXPECT_FALSE(connection->works());
    EXPECT_GT(node_->packets("policy_ingress"), before);
    rule_now("b", kFriends, 0);
    // What was held back comes again by itself.
    char buffer[5];
    ASSERT_TRUE(eventually([&] { return recv(connection->server.get(), buffer, sizeof(buffer), MSG_DONTWAIT) == 5; }));
    EXPECT_TRUE(connection->works());
    rule_now("a", 0, kNothing);
    EXPECT_FALSE(connection->works());
    rule_now("a", 0, 0);
  }
}

TEST_F(PolicyNetwork, WhoMayNotConnectDoesNotAndTheNodeDoes) {
  const Pod a = make("a", 0, kFriends);
  const Pod b = make("b", kNothing, 0);
  const Pod c = make("c");
  befriend(c);
  for (std::size_t family = 0; family < 2; ++family) {
    EXPECT_FALSE(exchange_udp(&a.netns, &b.netns, b.addresses[family])) << "neither side allows it";
    EXPECT_FALSE(exchange_udp(&c.netns, &b.netns, b.addresses[family])) << "the receiver denies";
    EXPECT_TRUE(exchange_udp(&a.netns, &c.netns, c.addresses[family]));
    EXPECT_TRUE(exchange_udp(&b.netns, &c.netns, c.addresses[family])) << "answers of what an isolated pod began";
    EXPECT_TRUE(connect_tcp(nullptr, &b.netns, b.addresses[family])) << "probes";
    EXPECT_TRUE(connect_tcp(&b.netns, &b.netns, b.addresses[family])) << "a pod reaches itself";
  }
}

TEST_F(PolicyNetwork, NothingPassesBeforeAPodsRulesAre) {
  const Pod a = make("a");
  Pod b{"b", PodNetns::make("b").value(), {}};
  Sink at_a(a.netns, kProbed), at_b(b.netns, kProbed);
  // The next address is b's, as everybody can guess.
  const Flood to_b(a.netns, Endpoint{ip("10.1.0.3"), kProbed});
  const Flood to_a(b.netns, Endpoint{a.addresses[0], kProbed});
  ASSERT_TRUE(to_b.goes_on(100));
  // Without its rules, the pod gets no network at all.
  auto refused = add(b);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  Result<Json> added = fail(Code::kUnavailable, "not asked");
  std::jthread asking([&] {
    // As a runtime does, until it is taken.
    EXPECT_TRUE(eventually([&] {
      added = add(b);
      return added.has_value();
    }));
  });
  ASSERT_TRUE(to_b.goes_on(100));
  rule("b", kNothing, kNothing);
  asking.join();
  ASSERT_TRUE(added);
  ASSERT_EQ(b.addresses[0], ip("10.1.0.3"));
  ASSERT_TRUE(to_b.goes_on(1000));
  ASSERT_TRUE(to_a.goes_on(1000));
  EXPECT_EQ(at_b.count(), 0U);
  EXPECT_EQ(at_a.count(), 0U);
  // Nor while an agent ends and another one starts, which knows of no rules for a while.
  node_.reset();
  ASSERT_TRUE(to_b.goes_on(1000));
  restart();
  ASSERT_TRUE(to_b.goes_on(1000));
  ASSERT_TRUE(to_a.goes_on(1000));
  EXPECT_EQ(at_b.count(), 0U);
  EXPECT_EQ(at_a.count(), 0U);
  rule("b", 0, 0);
  EXPECT_TRUE(eventually([&] { return at_b.count() > 0; })) << "the prober would have got through";
  EXPECT_TRUE(eventually([&] { return at_a.count() > 0; }));
}

TEST_F(PolicyNetwork, AnotherIdentityIsAnotherVerdict) {
  const Pod a = make("a");
  const Pod b = make("b", kFriends);
  EXPECT_FALSE(exchange_udp(&a.netns, &b.netns, b.addresses[0]));
  befriend(a);
  EXPECT_TRUE(exchange_udp(&a.netns, &b.netns, b.addresses[0])) << "a denial is not remembered";
  auto connection = connect_tcp(&a.netns, &b.netns, b.addresses[0]);
  ASSERT_TRUE(connection);
  ASSERT_TRUE(maps_->set_identity(a.addresses[0], kFriend + 1));
  rule_now("b", kFriends, 0);
  EXPECT_FALSE(connection->works());
}

}  // namespace
}  // namespace fairlead::network
