// SPDX-License-Identifier: Apache-2.0
// Two nodes, their pods and the world, as nodes_bed.h draws them: natively routed, and through the tunnel.
//
//      a1, a2 ─ n1 ─┐
//                   ├─ lan ── world
//          b1 ─ n2 ─┘
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

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

}  // namespace
}  // namespace fairlead
