// SPDX-License-Identifier: Apache-2.0
// Three nodes (nodes_fixture.h), of which one leaves the cluster and comes again.
//
//      a1, a2 ─ n1 ─┐
//          b1 ─ n2 ─┼─ lan ── world
//          c1 ─ n3 ─┘
#include "test/kit/datagram_flow.h"
#include "test/netns/nodes_fixture.h"

namespace fairlead {
namespace {

using testkit::BedNode;
using testkit::DatagramFlow;
using testkit::eventually;
using testkit::kPodPort;
using testkit::Stream;

template <class Mode>
class ThreeNodesTest : public Nodes<Three<Mode>> {};
TYPED_TEST_SUITE(ThreeNodesTest, NodesModes);

TYPED_TEST(ThreeNodesTest, EveryPodSpeaksWithEveryOther) {
  for (const Family family : this->families()) {
    for (const char* from : {"a1", "b1", "c1"}) {
      for (const char* to : {"a1", "b1", "c1"}) {
        const auto who = seen(this->pod(from).netns(), {this->pod(to).address(family), kPodPort});
        ASSERT_TRUE(who) << from << " to " << to << ": " << why(who);
        EXPECT_EQ(*who, this->pod(from).address(family)) << from << " to " << to;
      }
    }
  }
}

TYPED_TEST(ThreeNodesTest, ANodeThatLeavesTakesNoPacketOfTheOthersWithIt) {
  std::vector<DatagramFlow> flows;
  for (const Family family : this->families()) {
    auto flow =
        DatagramFlow::start(this->pod("a1").netns(), this->pod("b1").netns(), {this->pod("b1").address(family), 7000});
    ASSERT_TRUE(flow) << why(flow);
    flows.push_back(std::move(*flow));
  }
  const auto ways = [&](const BedNode& node) {
    return node.ip("route show proto 70").output + node.ip("-6 route show proto 70").output;
  };
  const BedNode& first = this->bed->node(1);
  const std::string before = ways(first);
  const BedNode& third = this->bed->node(3);
  this->bed->withdraw("n3.yaml");
  EXPECT_TRUE(eventually([&] {
    const std::string now = ways(first);
    return !now.contains("10.244.3.0") && !now.contains("fd00:244:3:") && now.contains("10.244.2.0");
  })) << ways(first);
  EXPECT_TRUE(eventually([&] { return first.ctl("node list").size() == 2 && first.synced(); }));
  this->bed->apply("n3.yaml", third.manifest());
  EXPECT_TRUE(eventually([&] { return ways(first) == before && first.synced() && third.synced(); })) << ways(first);
  for (const Family family : this->families()) {
    for (const auto& [from, to] : {std::pair{"a1", "c1"}, {"c1", "b1"}}) {
      Result<IpAddress> who = fail(Code::kTimeout, "not tried");
      EXPECT_TRUE(eventually([&] {
        return (who = seen(this->pod(from).netns(), {this->pod(to).address(family), kPodPort})).has_value();
      })) << why(who);
    }
  }
  for (DatagramFlow& flow : flows) {
    EXPECT_TRUE(eventually([&] { return flow.returned() > 1000; }));
    const DatagramFlow::Counts counts = flow.stop();
    EXPECT_TRUE(counts.whole()) << counts.str();
  }
}

}  // namespace
}  // namespace fairlead
