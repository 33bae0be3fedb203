// SPDX-License-Identifier: Apache-2.0
// Two nodes, their pods and the world, as nodes_bed.h draws them: natively routed, and through the tunnel.
//
//      a1, a2 ─ n1 ─┐
//                   ├─ lan ── world
//          b1 ─ n2 ─┘
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "test/netns/nodes_bed.h"

namespace fairlead {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testkit::BedNode;
using testkit::BedPod;
using testkit::Endpoint;
using testkit::eventually;
using testkit::kNodePort;
using testkit::kPodPort;
using testkit::NodesBed;
using testkit::PodNetns;
using testkit::Stream;

// Runs `task` in the namespace and gives what it gave.
template <class Task>
auto in(const PodNetns& where, Task task) {
  std::optional<decltype(task())> out;
  where.run([&] { out.emplace(task()); });
  return std::move(*out);
}

std::string why(const auto& result) {
  return result ? std::string() : result.error().message();
}

// Whom the observer at `to` sees when `from` speaks to it by TCP and by UDP: both the same.
Result<IpAddress> seen(const PodNetns& from, const Endpoint& to) {
  FL_LET(const Stream stream, in(from, [&] { return Stream::connect(to); }));
  FL_LET(const Endpoint datagram, in(from, [&] { return testkit::ask_datagram(to); }));
  if (stream.seen().address != datagram.address) {
    return fail(Code::kInvalid, "TCP from {}, UDP from {}", stream.seen().address, datagram.address);
  }
  return datagram.address;
}

struct Native {
  static testkit::BedOptions options() { return {.name = "nodes-native", .flags = {"--tunnel=none"}}; }
  static constexpr unsigned kMtu = 1500;
};
struct Vxlan {
  static testkit::BedOptions options() { return {.name = "nodes-vxlan", .flags = {"--tunnel=vxlan"}}; }
  static constexpr unsigned kMtu = 1450;
};
// IPv6 between the nodes, and both families for pods.
struct VxlanOverIpv6 {
  static testkit::BedOptions options() {
    return {.name = "nodes-vxlan6",
            .underlay = {Family::kV6, Family::kV4},
            .flags = {"--tunnel=vxlan", "--vxlan-port=4789"}};
  }
  static constexpr unsigned kMtu = 1430;
};

template <class Mode>
class Nodes : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    static const auto entered = testkit::enter_node_namespace("nodes");
    ASSERT_TRUE(entered) << why(entered);
    auto options = Mode::options();
    options.flags.push_back("--non-masquerade-cidr=203.0.113.0/24");
    auto made = NodesBed::make(std::move(options));
    ASSERT_TRUE(made) << why(made);
    bed = std::move(*made);
    for (const auto& [node, name] : {std::pair{1U, "a1"}, {1U, "a2"}, {2U, "b1"}}) {
      auto pod = bed->node(node).add_pod(name);
      ASSERT_TRUE(pod) << why(pod);
      pods.emplace(name, std::move(*pod));
    }
  }
  static void TearDownTestSuite() {
    pods.clear();
    bed.reset();
  }
  void SetUp() override { ASSERT_EQ(pods.size(), 3U) << "the bed is not whole"; }

  static const BedPod& pod(const std::string& name) { return pods.at(name); }
  static const std::vector<Family>& families() { return bed->options().families; }

  static inline std::unique_ptr<NodesBed> bed;
  static inline std::map<std::string, BedPod> pods;
};

using Modes = testing::Types<Native, Vxlan, VxlanOverIpv6>;
TYPED_TEST_SUITE(Nodes, Modes);

TYPED_TEST(Nodes, PodsSpeakToPodsOfTheOtherNodeAsThemselves) {
  const PodNetns& from = this->pod("a1").netns();
  for (const Family family : this->families()) {
    const Endpoint to{this->pod("b1").address(family), kPodPort};
    const auto who = seen(from, to);
    ASSERT_TRUE(who) << why(who);
    EXPECT_EQ(*who, this->pod("a1").address(family));
    // Large segments, and datagrams in many fragments.
    auto stream = in(from, [&] { return Stream::connect(to); });
    ASSERT_TRUE(stream) << why(stream);
    const auto exchanged = stream->exchange(2U << 20);
    EXPECT_TRUE(exchanged) << why(exchanged);
    const auto fragments = in(from, [&] { return testkit::ask_datagram(to, 6000); });
    EXPECT_TRUE(fragments) << why(fragments);
    for (const std::size_t bytes : {56U, 3000U}) {
      const auto pong = in(from, [&] { return testkit::ping(to.address, bytes); });
      EXPECT_TRUE(pong) << why(pong);
    }
    const auto closed = in(from, [&] { return testkit::refused({to.address, 9}); });
    EXPECT_EQ(closed.value_or(0), ECONNREFUSED) << why(closed);
  }
}

TYPED_TEST(Nodes, PodsKnowHowLargeAPacketMayBe) {
  const auto link =
      testkit::run_command(fmt::format("nsenter --net={} ip link show eth0", this->pod("a1").netns().path()));
  EXPECT_THAT(link.output, HasSubstr(fmt::format("mtu {} ", TypeParam::kMtu)));
  // A smaller network on the way tells so, and large transfers go on.
  const auto narrow = testkit::in_netns(this->bed->lan(), "ip link set wan0 mtu 1300");
  ASSERT_TRUE(narrow) << why(narrow);
  for (const Family family : this->families()) {
    const Endpoint world{this->bed->world().address(family), kPodPort};
    const auto mtu = in(this->pod("a1").netns(), [&] { return testkit::learn_mtu(world, 1380); });
    EXPECT_EQ(mtu.value_or(0), 1300) << why(mtu);
    auto stream = in(this->pod("a1").netns(), [&] { return Stream::connect(world); });
    ASSERT_TRUE(stream) << why(stream);
    const auto exchanged = stream->exchange(256U << 10);
    EXPECT_TRUE(exchanged) << why(exchanged);
  }
  EXPECT_TRUE(testkit::in_netns(this->bed->lan(), "ip link set wan0 mtu 1500"));
}

TYPED_TEST(Nodes, NodesAndPodsReachEachOther) {
  for (const Family family : this->families()) {
    const BedNode& own = this->bed->node(1);
    const BedNode& other = this->bed->node(2);
    const struct {
      const PodNetns& from;
      Endpoint to;
      IpAddress source;
    } cases[] = {
        {own.netns(), {this->pod("a1").address(family), kPodPort}, own.address(family)},
        {own.netns(), {this->pod("b1").address(family), kPodPort}, own.address(family)},
        {this->pod("a1").netns(), {own.address(family), kNodePort}, this->pod("a1").address(family)},
        {this->pod("a1").netns(), {other.address(family), kNodePort}, this->pod("a1").address(family)},
        {own.netns(), {other.address(family), kNodePort}, own.address(family)},
    };
    for (const auto& each : cases) {
      const auto who = seen(each.from, each.to);
      ASSERT_TRUE(who) << to_string(each.to) << ": " << why(who);
      EXPECT_EQ(*who, each.source) << to_string(each.to);
      const auto pong = in(each.from, [&] { return testkit::ping(each.to.address, 2000); });
      EXPECT_TRUE(pong) << why(pong);
    }
  }
}

TYPED_TEST(Nodes, TheWorldSeesTheNode) {
  for (const Family family : this->families()) {
    const IpAddress node = this->bed->node(1).address(family);
    const Endpoint world{this->bed->world().address(family), kPodPort};
    const auto who = seen(this->pod("a1").netns(), world);
    ASSERT_TRUE(who) << why(who);
    EXPECT_EQ(*who, node);
    // Two pods with one port to one server: two connections, each with a port of the range.
    auto first = in(this->pod("a1").netns(), [&] { return Stream::connect(world, 45000); });
    auto second = in(this->pod("a2").netns(), [&] { return Stream::connect(world, 45000); });
    ASSERT_TRUE(first) << why(first);
    ASSERT_TRUE(second) << why(second);
    EXPECT_NE(first->seen().port, second->seen().port);
    for (auto* stream : {&*first, &*second}) {
      EXPECT_EQ(stream->seen().address, node);
      EXPECT_GE(stream->seen().port, 61000);
      const auto exchanged = stream->exchange(1U << 20);
      EXPECT_TRUE(exchanged) << why(exchanged);
    }
    for (const char* name : {"a1", "a2"}) {
      const auto pong = in(this->pod(name).netns(), [&] { return testkit::ping(world.address); });
      EXPECT_TRUE(pong) << why(pong);
    }
    const auto closed = in(this->pod("a1").netns(), [&] { return testkit::refused({world.address, 9}); });
    EXPECT_EQ(closed.value_or(0), ECONNREFUSED) << why(closed);
    const auto fragments = in(this->pod("a1").netns(), [&] { return testkit::ask_datagram(world, 6000); });
    EXPECT_TRUE(fragments) << why(fragments);
    // The node itself keeps its own ports.
    auto own = in(this->bed->node(1).netns(), [&] { return Stream::connect(world, 45000); });
    ASSERT_TRUE(own) << why(own);
    EXPECT_EQ(own->seen(), (Endpoint{node, 45000}));
  }
}

TYPED_TEST(Nodes, SomeOfTheWorldSeesPodsThemselves) {
  ASSERT_TRUE(testkit::in_netns(this->bed->world().netns(), "ip address replace 203.0.113.9/32 dev lo"));
  ASSERT_TRUE(testkit::in_netns(this->bed->lan(),
                                "ip route replace 203.0.113.0/24 via 198.51.100.2 && "
                                "ip route replace 10.244.1.0/24 via 192.0.2.11"));
  const auto who = seen(this->pod("a1").netns(), {*IpAddress::parse("203.0.113.9"), kPodPort});
  ASSERT_TRUE(who) << why(who);
  EXPECT_EQ(*who, this->pod("a1").address(Family::kV4));
  EXPECT_TRUE(testkit::in_netns(this->bed->lan(), "ip route delete 10.244.1.0/24"));
}

TYPED_TEST(Nodes, AServiceHasItsBackendOnTheOtherNode) {
  std::string text;
  for (const Family family : this->families()) {
    const bool v4 = family == Family::kV4;
    text += fmt::format(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: b-{0}}}\n"
        "spec: {{clusterIP: \"{1}\", ports: [{{port: 80}}]}}\n"
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        "metadata: {{name: b-{0}, labels: {{kubernetes.io/service-name: b-{0}}}}}\naddressType: {2}\n"
        "ports: [{{port: {3}}}]\nendpoints: [{{addresses: [\"{4}\"]}}]\n",
        v4 ? "4" : "6", v4 ? "10.96.0.80" : "fd00:96::80", v4 ? "IPv4" : "IPv6", kPodPort,
        this->pod("b1").address(family));
  }
  this->bed->apply("service.yaml", text);
  const auto check = [&] {
    for (const Family family : this->families()) {
      const Endpoint service{*IpAddress::parse(family == Family::kV4 ? "10.96.0.80" : "fd00:96::80"), 80};
      Result<IpAddress> who;
      // The Service takes a moment to get into the maps.
      EXPECT_TRUE(eventually([&] { return bool(who = seen(this->pod("a1").netns(), service)); })) << why(who);
      EXPECT_EQ(who.value_or(IpAddress()), this->pod("a1").address(family));
      auto stream = in(this->pod("a1").netns(), [&] { return Stream::connect(service); });
      ASSERT_TRUE(stream) << why(stream);
      EXPECT_TRUE(stream->exchange(1U << 20));
    }
  };
  check();  // packet by packet: the test is in no cgroup of the nodes
  const auto entered = this->bed->cgroup().enter();
  ASSERT_TRUE(entered) << why(entered);
  check();  // in the socket layer
  this->bed->withdraw("service.yaml");
}

TYPED_TEST(Nodes, WhatIsTakenAwayIsPutBack) {
  const PodNetns& from = this->pod("a1").netns();
  const auto works = [&] {
    for (const Family family : this->families()) {
      const auto who = seen(from, {this->pod("b1").address(family), kPodPort});
      EXPECT_TRUE(who) << why(who);
      const auto node = seen(this->bed->node(1).netns(), {this->pod("b1").address(family), kPodPort});
      EXPECT_TRUE(node) << why(node);
    }
  };
  BedNode& node = this->bed->node(1);
  EXPECT_EQ(node.ip("route delete 10.244.2.0/24").code, 0);
  EXPECT_TRUE(eventually([&] { return !node.ip("route show 10.244.2.0/24").output.empty(); }));
  works();
  if (node.ip("link show fl_vxlan").code == 0) {
    const std::string before = node.ip("-o link show fl_vxlan").output;
    EXPECT_EQ(node.ip("link delete fl_vxlan").code, 0);
    EXPECT_TRUE(eventually([&] {
      const std::string now = node.ip("-o link show fl_vxlan").output;
      return now != before && now.find("UP") != std::string::npos && node.synced();
    }));
    works();
  }
  // The uplink is made anew, as a driver does that is loaded again.
  EXPECT_TRUE(testkit::in_netns(this->bed->lan(), "ip link delete port1"));
  EXPECT_TRUE(testkit::in_netns(
      this->bed->lan(),
      fmt::format("ip link add port1 type veth peer name eth0 netns {} && ip link set port1 master br0 && "
                  "ip link set port1 up",
                  node.netns().path())));
  EXPECT_EQ(node.ip("link set eth0 up").code, 0);
  EXPECT_EQ(node.ip("address add 192.0.2.11/24 dev eth0").code, 0);
  EXPECT_EQ(node.ip("address add 2001:db8::11/64 dev eth0 nodad").code, 0);
  EXPECT_EQ(node.ip("route add default via 192.0.2.1").code, 0);
  EXPECT_EQ(node.ip("route add ::/0 via 2001:db8::1").code, 0);
  EXPECT_TRUE(eventually([&] { return node.synced() && !node.ip("route show 10.244.2.0/24").output.empty(); }));
  works();
  const auto world = seen(from, {this->bed->world().address(Family::kV4), kPodPort});
  ASSERT_TRUE(world) << why(world);
  EXPECT_EQ(*world, node.address(Family::kV4));
}

TYPED_TEST(Nodes, ANodeLeavesAndComes) {
  BedNode& node = this->bed->node(1);
  this->bed->withdraw("n2.yaml");
  EXPECT_TRUE(eventually([&] { return node.ip("route show 10.244.2.0/24").output.empty(); }));
  EXPECT_TRUE(eventually([&] { return node.ctl("node list").size() == 1; }));
  this->bed->apply("n2.yaml", this->bed->node(2).manifest());
  EXPECT_TRUE(eventually([&] { return !node.ip("route show 10.244.2.0/24").output.empty() && node.synced(); }));
  const auto who = seen(this->pod("a1").netns(), {this->pod("b1").address(Family::kV4), kPodPort});
  EXPECT_TRUE(who) << why(who);
}

// Every datagram that was sent is answered: none is sent twice, and both ends count.
TYPED_TEST(Nodes, NoPacketIsLostWithoutAnAgent) {
  std::atomic<bool> enough = false;
  std::atomic<int> asked = 0;
  std::atomic<int> answered = 0;
  const auto talk = [&](const PodNetns& from, const Endpoint& to) {
    from.run([&] {
      auto stream = Stream::connect(to);
      if (!stream) return;
      while (!enough) {
        ++asked;
        if (stream->exchange(200)) ++answered;
        ++asked;
        if (testkit::ask_datagram(to, 1, 1)) ++answered;
      }
    });
  };
  {
    std::vector<std::jthread> talks;
    for (const Family family : this->families()) {
      talks.emplace_back(talk, std::cref(this->pod("a1").netns()), Endpoint{this->pod("b1").address(family), kPodPort});
      talks.emplace_back(talk, std::cref(this->pod("a2").netns()),
                         Endpoint{this->bed->world().address(family), kPodPort});
    }
    const auto more = [&](int count) {
      const int before = answered;
      return eventually([&] { return answered > before + count; });
    };
    EXPECT_TRUE(more(200));
    this->bed->node(1).kill();
    this->bed->node(2).kill();
    EXPECT_TRUE(more(500));
    for (const unsigned number : {1U, 2U}) {
      const auto started = this->bed->node(number).start();
      EXPECT_TRUE(started) << why(started);
    }
    EXPECT_TRUE(more(200));
    enough = true;
  }
  EXPECT_EQ(asked, answered);
}

TYPED_TEST(Nodes, ANodeIsBuiltAnewFromNothing) {
  BedNode& node = this->bed->node(2);
  this->pods.erase("b1");
  const auto rebooted = node.reboot();
  ASSERT_TRUE(rebooted) << why(rebooted);
  const auto started = node.start();
  ASSERT_TRUE(started) << why(started);
  auto fresh = node.add_pod("b1");
  ASSERT_TRUE(fresh) << why(fresh);
  this->pods.emplace("b1", std::move(*fresh));
  for (const Family family : this->families()) {
    const auto who = seen(this->pod("a1").netns(), {this->pod("b1").address(family), kPodPort});
    ASSERT_TRUE(who) << why(who);
    EXPECT_EQ(*who, this->pod("a1").address(family));
    const auto back = seen(this->pod("b1").netns(), {this->pod("a1").address(family), kPodPort});
    ASSERT_TRUE(back) << why(back);
    EXPECT_EQ(*back, this->pod("b1").address(family));
    const auto world = seen(this->pod("b1").netns(), {this->bed->world().address(family), kPodPort});
    ASSERT_TRUE(world) << why(world);
    EXPECT_EQ(*world, node.address(family));
  }
}

}  // namespace
}  // namespace fairlead
