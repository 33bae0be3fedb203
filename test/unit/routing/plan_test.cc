// SPDX-License-Identifier: Apache-2.0
#include "agent/routing/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "agent/routing/stack.h"

namespace fairlead::routing {
namespace {

using datapath::Path;
using datapath::PathKind;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

IpAddress ip(const char* text) {
  return *IpAddress::parse(text);
}
Cidr cidr(const char* text) {
  return *Cidr::parse(text);
}

std::shared_ptr<const model::Node> node(const std::string& name, std::vector<const char*> ranges,
                                        std::vector<const char*> addresses) {
  model::Node row;
  row.name = name;
  for (const char* range : ranges) row.pod_cidrs.push_back(cidr(range));
  for (const char* address : addresses) row.addresses.push_back(ip(address));
  return std::make_shared<const model::Node>(std::move(row));
}

Nodes nodes(std::vector<std::shared_ptr<const model::Node>> all) {
  Nodes named;
  for (auto& each : all) named[each->name] = each;
  return named;
}

// eth0 (#2, MTU 1500) is in 192.0.2.0/24 and 2001:db8::/64, eth1 (#3, MTU 9000) in 10.9.0.0/16.
Facts facts() {
  return {.links = {{.ifindex = 1, .name = "lo", .up = true},
                    {.ifindex = 2, .name = "eth0", .mtu = 1500, .up = true},
                    {.ifindex = 3, .name = "eth1", .mtu = 9000, .up = true}},
          .addresses = {
              {1, ip("127.0.0.1"), 8}, {2, ip("192.0.2.1"), 24}, {2, ip("2001:db8::1"), 64}, {3, ip("10.9.0.1"), 16}}};
}

Settings settings(bool tunnel = false) {
  Settings out{.node = "n1", .node_ips = {ip("192.0.2.1"), ip("2001:db8::1")}};
  if (tunnel) out.tunnel = TunnelSettings{};
  return out;
}

netlink::Link vxlan(std::uint32_t ifindex) {
  return {.ifindex = ifindex, .name = kTunnelDevice, .alias = kTunnelAlias, .mtu = 1450, .up = true, .kind = "vxlan"};
}

TEST(Plan, NativeRoutesGoByTheNodesAddressOfTheirFamily) {
  const Plan plan = plan_paths(nodes({node("n1", {"10.1.1.0/24"}, {"192.0.2.1"}),
                                      node("n2", {"10.1.2.0/24", "fd00:2::/64"}, {"192.0.2.2", "2001:db8::2"})}),
                               settings(), facts());
  const netlink::Route v4{cidr("10.1.2.0/24"), 2, ip("192.0.2.2"), ip("192.0.2.1"), kRouteProtocol, kRouteMetric};
  const netlink::Route v6{cidr("fd00:2::/64"), 2, ip("2001:db8::2"), ip("2001:db8::1"), kRouteProtocol, kRouteMetric};
  EXPECT_THAT(plan.routes, ElementsAre(Pair(v4.destination, v4), Pair(v6.destination, v6)));
  const std::map<Cidr, Path> paths{{cidr("10.1.1.0/24"), {PathKind::kDirect, {}}},
                                   {cidr("192.0.2.1/32"), {PathKind::kDirect, {}}},
                                   {cidr("2001:db8::1/128"), {PathKind::kDirect, {}}},
                                   {cidr("10.1.2.0/24"), {PathKind::kNode, ip("192.0.2.2")}},
                                   {cidr("fd00:2::/64"), {PathKind::kNode, ip("2001:db8::2")}},
                                   {cidr("192.0.2.2/32"), {PathKind::kNode, ip("192.0.2.2")}},
                                   {cidr("2001:db8::2/128"), {PathKind::kNode, ip("192.0.2.2")}}};
  EXPECT_EQ(plan.paths, paths);
  EXPECT_THAT(plan.uplinks, ElementsAre(Pair(2, "eth0")));
  EXPECT_FALSE(plan.device || plan.tunnel);
  EXPECT_THAT(plan.neighbours, IsEmpty());
  EXPECT_THAT(plan.failing, IsEmpty());
  EXPECT_EQ(plan.nodes.at("n1").way, Way::kOwn);
  EXPECT_EQ(plan.nodes.at("n2").way, Way::kNative);
  EXPECT_EQ(plan.nodes.at("n2").condition, "");
}

TEST(Plan, WhatIsBehindRoutersIsTheirsToCarry) {
  const Plan plan = plan_paths(
      nodes({node("n2", {"10.1.2.0/24"}, {"203.0.113.9"}), node("n3", {"10.1.3.0/24"}, {"203.0.113.10", "10.9.0.3"})}),
      settings(), facts());
  // n3 is reached by its second address: the first is on no network of ours.
  EXPECT_THAT(plan.routes, ElementsAre(Pair(cidr("10.1.3.0/24"), testing::Field(&netlink::Route::ifindex, 3))));
  EXPECT_EQ(plan.nodes.at("n2").way, Way::kNone);
  EXPECT_EQ(plan.nodes.at("n2").condition,
            "203.0.113.9 is on no network of this node's devices: routers there have to carry 10.1.2.0/24");
  // Never masqueraded all the same.
  EXPECT_EQ(plan.paths.at(cidr("10.1.2.0/24")), (Path{PathKind::kNode, ip("203.0.113.9")}));
  EXPECT_THAT(plan.failing, IsEmpty());
}

TEST(Plan, NodesThatCannotBeReachedSayWhy) {
  const Plan plan = plan_paths(nodes({node("n2", {"10.1.2.0/24"}, {}), node("n3", {"fd00:3::/64"}, {"192.0.2.3"}),
                                      node("n4", {}, {"192.0.2.4"})}),
                               settings(), facts());
  EXPECT_EQ(plan.nodes.at("n2").condition, "it has no InternalIP");
  EXPECT_EQ(plan.nodes.at("n3").condition, "it has no address of the family of podCIDR fd00:3::/64");
  EXPECT_EQ(plan.nodes.at("n4").condition, "it has no podCIDRs");
  EXPECT_THAT(plan.routes, IsEmpty());
  EXPECT_EQ(plan.paths.at(cidr("10.1.2.0/24")).kind, PathKind::kDirect);
  Settings v4_only = settings();
  v4_only.node_ips = {ip("192.0.2.1")};
  EXPECT_EQ(
      plan_paths(nodes({node("n5", {"fd00:5::/64"}, {"2001:db8::5"})}), v4_only, facts()).nodes.at("n5").condition,
      "it has no address of this node's families");
}

TEST(Plan, ThroughTheTunnelEachRangeHasANeighbour) {
  const Nodes all = nodes({node("n1", {"10.1.1.0/24"}, {"192.0.2.1"}),
                           node("n2", {"10.1.2.0/24", "fd00:2::/64"}, {"2001:db8::2", "203.0.113.2"})});
  Facts there = facts();
  const Plan before = plan_paths(all, settings(true), there);
  EXPECT_EQ(before.device,
            (netlink::VxlanSpec{
                .name = "fl_vxlan", .mac = tunnel_mac(ip("192.0.2.1")), .mtu = 1450, .port = 8472, .vni = 1}));
  EXPECT_EQ(before.device_address, ip("10.1.1.0"));
  EXPECT_FALSE(before.tunnel);
  EXPECT_THAT(before.routes, IsEmpty());  // until the device is there

  there.links.push_back(vxlan(7));
  const Plan plan = plan_paths(all, settings(true), there);
  EXPECT_EQ(plan.tunnel, (datapath::NodePaths::Tunnel{.ifindex = 7, .vni = 1}));
  const netlink::Route v4{cidr("10.1.2.0/24"), 7, ip("10.1.2.0"), ip("192.0.2.1"), kRouteProtocol, kRouteMetric};
  const netlink::Route v6{cidr("fd00:2::/64"), 7, ip("fd00:2::"), ip("2001:db8::1"), kRouteProtocol, kRouteMetric};
  EXPECT_THAT(plan.routes, ElementsAre(Pair(v4.destination, v4), Pair(v6.destination, v6)));
  // In the family of our primary address, though it is not on a network of ours and not the other's first.
  const Mac peer = tunnel_mac(ip("203.0.113.2"));
  EXPECT_THAT(plan.neighbours, ElementsAre(Pair(ip("10.1.2.0"), peer), Pair(ip("fd00:2::"), peer)));
  EXPECT_THAT(plan.peers, ElementsAre(Pair(peer, ip("203.0.113.2"))));
  EXPECT_EQ(plan.paths.at(cidr("fd00:2::/64")), (Path{PathKind::kNode, ip("203.0.113.2")}));
  EXPECT_EQ(plan.paths.at(cidr("2001:db8::2/128")), (Path{PathKind::kNode, ip("203.0.113.2")}));
  EXPECT_EQ(plan.nodes.at("n2").way, Way::kTunnel);

  there.links.back().alias = "another's";
  EXPECT_FALSE(plan_paths(all, settings(true), there).tunnel);
}

TEST(Plan, TheTunnelSpeaksTheFamilyOfThePrimaryAddressAlone) {
  const Nodes all = nodes({node("n2", {"10.1.2.0/24"}, {"192.0.2.2"}), node("n3", {"10.1.3.0/24"}, {"2001:db8::3"}),
                           node("n4", {"10.1.4.0/24"}, {"192.0.2.4", "2001:db8::4"})});
  const Plan v4 = plan_paths(all, settings(true), facts());
  EXPECT_EQ(v4.device->local, std::nullopt);
  EXPECT_EQ(v4.nodes.at("n3").way, Way::kNone);
  EXPECT_EQ(v4.nodes.at("n3").condition, "the tunnel speaks IPv4, and it has no such address");
  EXPECT_EQ(v4.paths.at(cidr("10.1.3.0/24")).kind, PathKind::kDirect);
  EXPECT_EQ(v4.peers.size(), 2U);
  Settings v6_first = settings(true);
  std::ranges::reverse(v6_first.node_ips);
  const Plan v6 = plan_paths(all, v6_first, facts());
  EXPECT_EQ(v6.device->local, ip("2001:db8::1"));
  EXPECT_EQ(v6.nodes.at("n2").condition, "the tunnel speaks IPv6, and it has no such address");
  EXPECT_THAT(v6.peers, testing::UnorderedElementsAre(Pair(tunnel_mac(ip("2001:db8::3")), ip("2001:db8::3")),
                                                      Pair(tunnel_mac(ip("2001:db8::4")), ip("2001:db8::4"))));
}

TEST(Plan, NodesThatWouldHaveOneMacInTheTunnelAreNotMistakenForEachOther) {
  // Found by search: rare, since IPv6 addresses have more bits than there is room for.
  const Plan plan = plan_paths(
      nodes({node("n2", {"fd00:2::/64"}, {"2001:db8::1:0:0:7"}),
             node("n3", {"fd00:3::/64"}, {"2001:db8::101:0:4f86:c868"})}),
      [] {
        Settings v6 = settings(true);
        v6.node_ips = {ip("2001:db8::1")};
        return v6;
      }(),
      facts());
  EXPECT_THAT(plan.peers, ElementsAre(Pair(tunnel_mac(ip("2001:db8::1:0:0:7")), ip("2001:db8::1:0:0:7"))));
  EXPECT_EQ(plan.nodes.at("n2").condition, "");
  EXPECT_THAT(plan.nodes.at("n3").condition, testing::HasSubstr("MAC"));
}

TEST(Plan, OverlappingRangesAreRefusedOwnFirstThenByName) {
  const Plan plan =
      plan_paths(nodes({node("n1", {"10.1.1.0/24"}, {"192.0.2.1"}), node("a", {"10.1.0.0/16"}, {"192.0.2.2"}),
                        node("b", {"10.1.1.128/25"}, {"192.0.2.3"}), node("c", {"10.2.0.0/24"}, {"192.0.2.4"}),
                        node("d", {"10.2.0.0/24"}, {"192.0.2.5"}), node("e", {"10.2.0.0/16"}, {"192.0.2.6"})}),
                 settings(), facts());
  EXPECT_THAT(plan.routes,
              ElementsAre(Pair(cidr("10.2.0.0/24"), testing::Field(&netlink::Route::gateway, ip("192.0.2.4")))));
  EXPECT_EQ(plan.failing.at("node a"), "its podCIDR 10.1.0.0/16 overlaps one of node n1");
  EXPECT_EQ(plan.failing.at("node b"), "its podCIDR 10.1.1.128/25 overlaps one of node n1");
  EXPECT_EQ(plan.failing.at("node d"), "its podCIDR 10.2.0.0/24 overlaps one of node c");
  EXPECT_EQ(plan.failing.at("node e"), "its podCIDR 10.2.0.0/16 overlaps one of node c");
  EXPECT_EQ(plan.failing.size(), 4U);
}

TEST(Plan, MasqueradeBehindTheNodesAddresses) {
  Settings wanted = settings();
  wanted.non_masquerade = {cidr("172.16.0.0/12")};
  wanted.first_port = 50000;
  const Plan plan = plan_paths({}, wanted, facts());
  EXPECT_EQ(plan.masquerade,
            (datapath::Masquerade{.addresses = wanted.node_ips, .first_port = 50000, .last_port = 65535}));
  EXPECT_EQ(plan.paths.at(cidr("172.16.0.0/12")), (Path{PathKind::kDirect, {}}));
  wanted.masquerade = false;
  EXPECT_THAT(plan_paths({}, wanted, facts()).masquerade.addresses, IsEmpty());
}

TEST(Plan, UplinksAreFoundByTheNodesAddressesOrByName) {
  std::map<std::string, std::string> failing;
  Settings wanted = settings();
  wanted.uplinks = {"eth1", "eth7"};
  EXPECT_THAT(find_uplinks(wanted, facts(), failing), ElementsAre(Pair(3, "eth1")));
  EXPECT_THAT(failing, ElementsAre(Pair("uplink eth7", "there is no such device")));
  wanted.uplinks.clear();
  wanted.node_ips = {ip("127.0.0.1"), ip("2001:db8::77")};
  failing.clear();
  EXPECT_THAT(find_uplinks(wanted, facts(), failing), IsEmpty());
  EXPECT_THAT(failing, ElementsAre(Pair("address 2001:db8::77", "no device carries this address of the node")));
}

TEST(Plan, PodsPacketsFitTheSmallestUplinkAndTheTunnel) {
  EXPECT_EQ(pod_mtu(settings(), facts()), 1500U);
  EXPECT_EQ(pod_mtu(settings(true), facts()), 1450U);
  Settings v6 = settings(true);
  std::ranges::reverse(v6.node_ips);
  EXPECT_EQ(pod_mtu(v6, facts()), 1430U);
  Settings fast = settings(true);
  fast.uplinks = {"eth1"};
  EXPECT_EQ(pod_mtu(fast, facts()), 8950U);
  fast.uplinks = {"eth1", "eth0"};
  EXPECT_EQ(pod_mtu(fast, facts()), 1450U);
  fast.uplinks = {"eth9"};
  EXPECT_EQ(pod_mtu(fast, facts()), 1450U);
}

TEST(Plan, EveryNodeKnowsTheTunnelAddressOfAnother) {
  EXPECT_EQ(tunnel_mac(ip("192.0.2.1")), (Mac{0x0a, 0xf1, 192, 0, 2, 1}));
  EXPECT_NE(tunnel_mac(ip("2001:db8::1")), tunnel_mac(ip("2001:db8::2")));
  EXPECT_NE(tunnel_mac(ip("2001:db8::1:0:0:2")), tunnel_mac(ip("2001:db8::2:0:0:1")));
  // As programs make it (test/bpf/host_test.cc).
  EXPECT_EQ(tunnel_mac(ip("2001:db8::9")), (Mac{0x0a, 0xf1, 0x20, 0x13, 0x8a, 0xce}));
}

TEST(Stack, ReservedPortsAreKept) {
  EXPECT_EQ(with_range("\n", 61000, 65535), "61000-65535");
  EXPECT_EQ(with_range("8080,9148-9150\n", 61000, 65535), "8080,9148-9150,61000-65535");
  EXPECT_EQ(with_range("8080,60000-65535\n", 61000, 65535), "8080,60000-65535");
}

}  // namespace
}  // namespace fairlead::routing
