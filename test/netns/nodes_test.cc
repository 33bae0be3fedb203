// SPDX-License-Identifier: Apache-2.0
// Two nodes, their pods and the world, as nodes_bed.h draws them: natively routed, and through the tunnel.
//
//      a1, a2 ─ n1 ─┐
//                   ├─ lan ── world
//          b1 ─ n2 ─┘
#include <cerrno>

#include "test/netns/nodes_fixture.h"

namespace fairlead {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testkit::BedNode;
using testkit::Endpoint;
using testkit::eventually;
using testkit::kNodePort;
using testkit::kPodPort;
using testkit::PodNetns;
using testkit::Stream;

template <class Mode>
class NodesTest : public Nodes<Mode> {};
TYPED_TEST_SUITE(NodesTest, NodesModes);

TYPED_TEST(NodesTest, PodsSpeakToPodsOfTheOtherNodeAsThemselves) {
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

TYPED_TEST(NodesTest, PodsKnowHowLargeAPacketMayBe) {
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

TYPED_TEST(NodesTest, NodesAndPodsReachEachOther) {
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

TYPED_TEST(NodesTest, TheWorldSeesTheNode) {
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

// A network of the world that pods are not masqueraded for, and that knows where they are.
TYPED_TEST(NodesTest, WhoIsNotMasqueradedForSeesThePod) {
  const PodNetns& from = this->pod("a1").netns();
  for (const Family family : this->families()) {
    const bool v4 = family == Family::kV4;
    const char* flag = v4 ? "" : "-6";
    const auto world = IpAddress::parse(v4 ? "203.0.113.2" : "2001:db8:113::2").value();
    const auto gateway = IpAddress::parse(v4 ? "198.51.100.1" : "2001:db8:ff::1").value();
    const auto range = this->bed->node(1).pod_range(family);
    const auto there =
        testkit::in_netns(this->bed->world().netns(),
                          fmt::format("ip address add {0}/{1} dev eth0 {2} && ip {3} route add {4} via {5} src {0}",
                                      world, v4 ? 32 : 128, v4 ? "" : "nodad", flag, range, gateway));
    ASSERT_TRUE(there) << why(there);
    const auto router =
        testkit::in_netns(this->bed->lan(), fmt::format("ip {0} route add {1} dev wan0 && ip {0} route add {2} via {3}",
                                                        flag, world, range, this->bed->node(1).address(family)));
    ASSERT_TRUE(router) << why(router);
    const auto who = seen(from, {world, kPodPort});
    ASSERT_TRUE(who) << why(who);
    EXPECT_EQ(*who, this->pod("a1").address(family));
    auto stream = in(from, [&] { return Stream::connect({world, kPodPort}); });
    ASSERT_TRUE(stream) << why(stream);
    const auto exchanged = stream->exchange(1U << 20);
    EXPECT_TRUE(exchanged) << why(exchanged);
    for (const std::size_t bytes : {56U, 3000U}) {
      const auto pong = in(from, [&] { return testkit::ping(world, bytes); });
      EXPECT_TRUE(pong) << why(pong);
    }
    // And the other way: the world speaks to the pod first.
    const auto inwards = seen(this->bed->world().netns(), {this->pod("a1").address(family), kPodPort});
    ASSERT_TRUE(inwards) << why(inwards);
    EXPECT_EQ(*inwards, world);
    EXPECT_TRUE(testkit::in_netns(
        this->bed->lan(), fmt::format("ip {0} route del {1} dev wan0 && ip {0} route del {2}", flag, world, range)));
    EXPECT_TRUE(testkit::in_netns(this->bed->world().netns(),
                                  fmt::format("ip address del {}/{} dev eth0", world, v4 ? 32 : 128)));
  }
}

TYPED_TEST(NodesTest, ANodeLeavesAndComes) {
  BedNode& node = this->bed->node(1);
  this->bed->withdraw("n2.yaml");
  EXPECT_TRUE(eventually([&] { return node.ip("route show 10.244.2.0/24").output.empty(); }));
  EXPECT_TRUE(eventually([&] { return node.ctl("node list").size() == 1; }));
  this->bed->apply("n2.yaml", this->bed->node(2).manifest());
  EXPECT_TRUE(eventually([&] { return !node.ip("route show 10.244.2.0/24").output.empty() && node.synced(); }));
  const auto who = seen(this->pod("a1").netns(), {this->pod("b1").address(Family::kV4), kPodPort});
  EXPECT_TRUE(who) << why(who);
}

}  // namespace
}  // namespace fairlead
