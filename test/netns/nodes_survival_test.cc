// SPDX-License-Identifier: Apache-2.0
// What others, crashes and reboots do to the ways between nodes (nodes_fixture.h), and that it comes right again.
#include <sys/types.h>

#include "test/kit/datagram_flow.h"
#include "test/netns/nodes_fixture.h"

namespace fairlead {
namespace {

using namespace std::chrono_literals;
using testkit::BedNode;
using testkit::DatagramFlow;
using testkit::eventually;
using testkit::kPodPort;

template <class Mode>
class NodesSurvivalTest : public Nodes<Mode> {
 protected:
  // Both ways, both families; empty where all of it works.
  static std::string trouble() {
    std::string all;
    for (const Family family : Nodes<Mode>::families()) {
      for (const auto& [from, to] : {std::pair{"a1", "b1"}, {"b1", "a1"}}) {
        const auto who = seen(Nodes<Mode>::pod(from).netns(), {Nodes<Mode>::pod(to).address(family), kPodPort});
        if (!who) all += fmt::format("{} to {}: {}\n", from, to, why(who));
      }
      const auto world = seen(Nodes<Mode>::pod("b1").netns(), {Nodes<Mode>::bed->world().address(family), kPodPort});
      if (!world) all += "b1 to the world: " + why(world) + "\n";
    }
    return all;
  }
  static bool tunnelled() { return !Nodes<Mode>::bed->node(1).ip("link show fl_vxlan").output.contains("not exist"); }
};
TYPED_TEST_SUITE(NodesSurvivalTest, NodesModes);

TYPED_TEST(NodesSurvivalTest, WhatSomebodyRemovesIsPutBack) {
  BedNode& node = this->bed->node(1);
  // What is told of the routes, neighbours and programs that are ours.
  const auto state = [&] {
    std::string all;
    for (const char* line : {"route show proto 70", "-6 route show proto 70", "neigh show dev fl_vxlan nud permanent",
                             "-4 -br addr show dev fl_vxlan", "-6 neigh show dev fl_vxlan nud permanent"}) {
      all += node.ip(line).output;
    }
    return all;
  };
  std::vector<std::string> harms{"route del 10.244.2.0/24", "-6 route del fd00:244:2::/64", "route flush proto 70",
                                 "-6 route flush proto 70"};
  if (this->tunnelled()) {
    harms.insert(harms.end(),
                 {"neigh del 10.244.2.0 dev fl_vxlan", "-6 neigh del fd00:244:2:: dev fl_vxlan",
                  "neigh replace 10.244.2.0 lladdr 02:00:00:00:00:01 dev fl_vxlan nud permanent",
                  "-6 neigh replace fd00:244:2:: lladdr 02:00:00:00:00:01 dev fl_vxlan nud permanent",
                  "addr del 10.244.1.0/32 dev fl_vxlan", "addr add 10.77.0.1/24 dev fl_vxlan", "link set fl_vxlan down",
                  "link set fl_vxlan mtu 1300", "link set fl_vxlan address 02:00:00:00:00:02", "link del fl_vxlan"});
  }
  const std::string before = state();
  for (const std::string& harm : harms) {
    const auto done = node.ip(harm);
    ASSERT_EQ(done.code, 0) << harm << ": " << done.output;
    EXPECT_TRUE(eventually([&] { return state() == before && node.synced(); }, 20s))
        << harm << "\n"
        << before << "is now\n"
        << state() << node.ctl("status").dump() << node.log();
    EXPECT_EQ(this->trouble(), "") << harm;
  }
}

TYPED_TEST(NodesSurvivalTest, NoPacketIsLostWhileTheAgentIsKilledAndComesBack) {
  // To the other node, to a pod of the same one, to the world, and into the other node's pod from the node itself.
  std::vector<std::pair<std::string, DatagramFlow>> flows;
  for (const Family family : this->families()) {
    const struct {
      const char* name;
      const testkit::PodNetns& from;
      const testkit::BedPod& to;
    } ways[] = {{"a1 to b1", this->pod("a1").netns(), this->pod("b1")},
                {"a1 to a2", this->pod("a1").netns(), this->pod("a2")},
                {"a1 to the world", this->pod("a1").netns(), this->bed->world()},
                {"n1 to b1", this->bed->node(1).netns(), this->pod("b1")}};
    std::uint16_t port = 7000;
    for (const auto& way : ways) {
      auto flow = DatagramFlow::start(way.from, way.to.netns(), {way.to.address(family), ++port});
      ASSERT_TRUE(flow) << why(flow);
      flows.emplace_back(fmt::format("{} by IPv{}", way.name, static_cast<int>(family)), std::move(*flow));
    }
  }
  const auto goes_on = [&](std::uint64_t more) {
    for (const auto& [name, flow] : flows) {
      const std::uint64_t from = flow.returned();
      EXPECT_TRUE(eventually([&] { return flow.returned() >= from + more; })) << name;
    }
  };
  goes_on(500);
  for (BedNode* node : {&this->bed->node(1), &this->bed->node(2)}) {
    node->kill();
    goes_on(2000);
    const auto started = node->start();
    ASSERT_TRUE(started) << why(started);
    goes_on(500);
  }
  for (auto& [name, flow] : flows) {
    const DatagramFlow::Counts counts = flow.stop();
    EXPECT_TRUE(counts.whole()) << name << ": " << counts.str();
    this->RecordProperty(name, counts.str());
  }
}

TYPED_TEST(NodesSurvivalTest, ANodeThatRebootsIsReachedAgain) {
  ASSERT_EQ(this->trouble(), "");
  BedNode& node = this->bed->node(2);
  this->pods.erase("b1");
  const auto rebooted = node.reboot();
  ASSERT_TRUE(rebooted) << why(rebooted);
  const auto started = node.start();
  ASSERT_TRUE(started) << why(started);
  this->add_pod(2, "b1");
  std::string last;
  EXPECT_TRUE(eventually([&] { return (last = this->trouble()).empty(); }, 12s)) << last << node.log();
}

}  // namespace
}  // namespace fairlead
