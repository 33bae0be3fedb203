// SPDX-License-Identifier: Apache-2.0
// What comes by an uplink or by the tunnel, and what leaves for other nodes, packet by packet; and BpfNodePaths itself.
#include "test/bpf/node_path_fixture.h"
#include "test/kit/process.h"

namespace fairlead::datapath {
namespace {

using testkit::icmp;
using testkit::icmp6;
using testkit::tcp;
using testkit::udp;

class HostPath : public NodePath {
 protected:
  static Verdict from_overlay(const Bytes& packet) { return run("from_overlay", tunnel_, packet); }
  static Verdict to_overlay(const Bytes& packet) { return run("to_overlay", tunnel_, packet); }
  // To the tunnel's device of far_node(): its MAC follows from its address.
  static Bytes into_tunnel(Bytes packet) {
    std::ranges::copy(Mac{0x0a, 0xf1, 192, 0, 2, 9}, packet.begin());
    return packet;
  }
  static void use_tunnel() { ASSERT_TRUE(paths_->set_tunnel(NodePaths::Tunnel{tunnel_, 7})); }
};

// Every way to a pod: one verdict, one connection, the same frame for the pod.
TEST_F(HostPath, APacketToAPodIsJudgedOnceWhicheverWayItComes) {
  use_tunnel();
  for (const FamilyCase& each : families()) {
    const IpAddress& to = a_.address(each.family);
    const Transport question = udp(1000, 53);
    const auto way = [&](const std::string& name) -> Verdict {
      if (name == "pod") return from_pod(b_, sent(b_, to, question));
      if (name == "host") return to_pod(a_, frame(a_.from_host(), Ip{far_pod(each.family), to, 63}, question));
      const Bytes packet = came(far_pod(each.family), to, question);
      return name == "uplink" ? from_uplink(packet) : from_overlay(packet);
    };
    for (const std::string name : {"pod", "host", "uplink", "overlay"}) {
      SCOPED_TRACE(name);
      const std::uint64_t before = count("forwarded");
      const Verdict verdict = way(name);
      EXPECT_EQ(verdict.action, name == "host" ? TC_ACT_OK : TC_ACT_REDIRECT);
      EXPECT_EQ(verdict.packet, received(a_, name == "pod" ? b_.address(each.family) : far_pod(each.family), question));
      EXPECT_EQ(verdict.mark, 0) << "it goes to the pod itself, past the programs of its device";
      EXPECT_EQ(count("forwarded"), before + 1);
      EXPECT_EQ(connections(each.family).size(), 1);
      condemn(each.family);
      sweep();
    }
  }
}

TEST_F(HostPath, NativeRoutingTakesPodsToOtherNodesAndBack) {
  for (const FamilyCase& each : families()) {
    const IpAddress& pod = a_.address(each.family);
    for (int i = 0; i < 2; ++i) {
      const Verdict there = from_pod(a_, sent(a_, far_pod(each.family), udp(1000, 53)));
      EXPECT_EQ(there.action, TC_ACT_REDIRECT);
      EXPECT_EQ(there.packet, left(a_, pod, far_pod(each.family), udp(1000, 53)));
      EXPECT_NE(there.mark, 0) << "to_uplink would look at it again";
      const Verdict back = from_uplink(came(far_pod(each.family), pod, udp(53, 1000)));
      EXPECT_EQ(back.action, TC_ACT_REDIRECT);
      EXPECT_EQ(back.packet, received(a_, far_pod(each.family), udp(53, 1000)));
    }
    EXPECT_EQ(connections(each.family).size(), 1);
  }
}

TEST_F(HostPath, TheTunnelTakesPodsToOtherNodesAndToTheirAddresses) {
  use_tunnel();
  for (const FamilyCase& each : families()) {
    ASSERT_TRUE(paths_->set_path(Cidr::host(each.remote), far_node()));
    for (const IpAddress& to : {far_pod(each.family), each.remote}) {
      for (int i = 0; i < 2; ++i) {  // the second by what the connection remembers
        const Verdict there = from_pod(a_, sent(a_, to, udp(1000, 53)));
        EXPECT_EQ(there.action, TC_ACT_REDIRECT);
        EXPECT_EQ(there.packet, into_tunnel(left(a_, a_.address(each.family), to, udp(1000, 53))));
        const testkit::Place egress{.ifindex = tunnel_, .mark = there.mark};
        const Verdict passed = path_->run("to_overlay", egress, there.packet).value();
        expect_untouched(passed, there.packet);
        EXPECT_EQ(passed.mark, 0);
      }
    }
  }
}

// The agent tells the device and its peers the same MACs (routing/plan.cc).
TEST_F(HostPath, ANodeThatIsReachedByIpv6HasATunnelMacOfItsWholeAddress) {
  use_tunnel();
  for (const FamilyCase& each : families()) {
    ASSERT_TRUE(paths_->set_path(far_pods(each.family), {PathKind::kNode, ip("2001:db8::9")}));
    const Bytes there = from_pod(a_, sent(a_, far_pod(each.family), udp(1000, 53))).packet;
    EXPECT_EQ(Bytes(there.begin(), there.begin() + 6), (Bytes{0x0a, 0xf1, 0x20, 0x13, 0x8a, 0xce}));
  }
}

TEST_F(HostPath, WhatTheTunnelDoesNotTakeWholeIsTheStacks) {
  use_tunnel();
  ASSERT_EQ(testkit::run_command("ip link set vx0 mtu 1300").code, 0);
  for (const FamilyCase& each : families()) {
    const Bytes large = sent(a_, far_pod(each.family), udp(1000, 53, std::string(1350, 'x')));
    const Verdict verdict = from_pod(a_, large);
    EXPECT_EQ(verdict.action, TC_ACT_OK);
    EXPECT_EQ(verdict.packet, large);
    EXPECT_EQ(from_pod(a_, sent(a_, far_pod(each.family), udp(1000, 53))).action, TC_ACT_REDIRECT);
  }
  ASSERT_EQ(testkit::run_command("ip link set vx0 mtu 1500").code, 0);
}

TEST_F(HostPath, TheStacksPacketsGoIntoTheTunnelWhereANodeHasTheAddress) {
  use_tunnel();
  for (const FamilyCase& each : families()) {
    const Bytes known = for_stack(a_, own(each.family), far_pod(each.family), udp(1, 2));
    const Verdict verdict = to_overlay(known);
    EXPECT_EQ(verdict.action, TC_ACT_UNSPEC);
    EXPECT_EQ(verdict.packet, into_tunnel(known));
    const std::uint64_t before = count("no_node");
    expect_drop(to_overlay(for_stack(a_, own(each.family), each.remote, udp(1, 2))), "no_node", before);
  }
}

TEST_F(HostPath, WhatIsNoPodsIsLeftAlone) {
  use_tunnel();
  for (const FamilyCase& each : families()) {
    const IpAddress many = each.family == Family::kV4 ? ip("224.0.0.1") : ip("ff02::1");
    for (const IpAddress& to : {own(each.family), each.remote, far_pod(each.family), many}) {
      const Bytes packet = came(far_pod(each.family), to, udp(1000, 53));
      const std::uint64_t before = count("forwarded");
      expect_untouched(from_uplink(packet), packet);
      expect_untouched(from_overlay(packet), packet);
      EXPECT_EQ(count("forwarded"), before);
    }
    EXPECT_TRUE(connections(each.family).empty());
    // The stack answers to the last hop.
    const Bytes last = came(far_pod(each.family), a_.address(each.family), udp(1000, 53), 1);
    expect_untouched(from_uplink(last), last);
    // Broken, or for another MAC.
    Bytes broken = came(far_pod(each.family), a_.address(each.family), udp(1000, 53));
    broken[14] = each.family == Family::kV4 ? 0x44 : 0x50;
    expect_untouched(from_uplink(broken), broken);
    Bytes foreign = came(far_pod(each.family), a_.address(each.family), udp(1000, 53));
    foreign[5] ^= 0xff;
    expect_untouched(from_uplink(foreign), foreign);
  }
  const Bytes other = testkit::frame(testkit::Ethernet{}, 0x88b5, Bytes(50, 1));
  expect_untouched(from_uplink(other), other);
}

TEST_F(HostPath, WhatIsWrongWithAPodsPacketIsCounted) {
  for (const FamilyCase& each : families()) {
    const IpAddress& pod = a_.address(each.family);
    std::uint64_t before = count("no_connection");
    expect_drop(from_uplink(came(each.remote, pod, echo(each.family, false, 7))), "no_connection", before);
    Bytes short_udp = came(each.remote, pod, {17, Bytes(4, 0)});
    before = count("malformed");
    expect_drop(from_uplink(short_udp), "malformed", before);
    const Bytes about = testkit::packet(Ip{pod, each.remote}, udp(1, 2));
    before = count("icmp_error");
    const Transport error =
        each.family == Family::kV4 ? icmp(3, 1, testkit::error_rest(about)) : icmp6(1, 0, testkit::error_rest(about));
    expect_drop(from_uplink(came(each.remote, pod, error)), "icmp_error", before);
  }
}

TEST_F(HostPath, APortOfTheNodeIsPassedOnToItsPod) {
  use_tunnel();
  for (const FamilyCase& each : families()) {
    const IpAddress& pod = a_.address(each.family);
    serve(own(each.family), 8080, Protocol::kTcp, {{pod, 80}});
    const Verdict in = from_uplink(came(each.remote, own(each.family), tcp(5000, 8080, kSyn)));
    EXPECT_EQ(in.action, TC_ACT_REDIRECT);
    EXPECT_EQ(in.packet, received(a_, each.remote, tcp(5000, 80, kSyn)));
    // The answer leaves as the node's; the stack would take it for a forgery.
    const Verdict out = from_pod(a_, sent(a_, each.remote, tcp(80, 5000, kSyn | kAck)));
    EXPECT_EQ(out.action, TC_ACT_REDIRECT);
    EXPECT_EQ(out.packet, left(a_, own(each.family), each.remote, tcp(8080, 5000, kSyn | kAck)));
    EXPECT_EQ(from_uplink(came(each.remote, own(each.family), tcp(5000, 8080, kAck))).packet,
              received(a_, each.remote, tcp(5000, 80, kAck)));
    EXPECT_EQ(connections(each.family).size(), 1);
    // From a pod of another node, by the tunnel.
    EXPECT_EQ(from_overlay(came(far_pod(each.family), own(each.family), tcp(5000, 8080, kSyn))).packet,
              received(a_, far_pod(each.family), tcp(5000, 80, kSyn)));
    // Mid-stream without a connection: reset, back by the uplink.
    const std::uint64_t before = count("no_connection");
    const Verdict reset = from_uplink(came(each.remote, own(each.family), tcp(5001, 8080, kAck, "x", 9, 77)));
    EXPECT_EQ(reset.action, TC_ACT_REDIRECT);
    EXPECT_EQ(count("no_connection"), before + 1);
    // A pod here reaches it as well, and the node's other ports as ever.
    EXPECT_EQ(from_pod(b_, sent(b_, own(each.family), tcp(5000, 8080, kSyn))).packet,
              received(a_, b_.address(each.family), tcp(5000, 80, kSyn)));
    EXPECT_EQ(from_pod(b_, sent(b_, own(each.family), tcp(5000, 10250, kSyn))).action, TC_ACT_OK);
    // From afar, another port of the node is the stack's.
    const Bytes other = came(each.remote, own(each.family), tcp(5000, 8081, kSyn));
    expect_untouched(from_uplink(other), other);
  }
}

TEST_F(HostPath, AShapedPodIsReachedThroughItsQdisc) {
  Pod shaped = a_;
  shaped.endpoint.shaped = true;
  ASSERT_TRUE(path_->pods().upsert(shaped.endpoint));
  for (const FamilyCase& each : families()) {
    const Verdict verdict = from_uplink(came(far_pod(each.family), a_.address(each.family), udp(1, 2)));
    EXPECT_EQ(verdict.action, TC_ACT_REDIRECT);
    EXPECT_NE(verdict.mark, 0);
  }
  ASSERT_TRUE(path_->pods().upsert(a_.endpoint));
}

// What a connection remembers of a path is of that path: another one is noticed.
TEST_F(HostPath, AConnectionFollowsAPathThatChanges) {
  use_tunnel();
  for (const FamilyCase& each : families()) {
    const Bytes question = sent(a_, far_pod(each.family), udp(1000, 53));
    const auto hint = [&] { return connections(each.family).at(0).endpoints[CT_ORIGINAL]; };
    ASSERT_EQ(from_pod(a_, question).action, TC_ACT_REDIRECT);
    const std::uint16_t first = hint();
    EXPECT_GE(first, RECEIVER_NODE);
    // Moved to another node; a longer prefix within it; that one erased.
    ASSERT_TRUE(paths_->set_path(far_pods(each.family), {PathKind::kNode, ip("192.0.2.10")}));
    ASSERT_EQ(from_pod(a_, question).action, TC_ACT_REDIRECT);
    const std::uint16_t second = hint();
    EXPECT_NE(second, first);
    ASSERT_TRUE(paths_->set_path(Cidr::host(far_pod(each.family)), {PathKind::kNode, ip("192.0.2.11")}));
    ASSERT_EQ(from_pod(a_, question).action, TC_ACT_REDIRECT);
    const std::uint16_t third = hint();
    EXPECT_NE(third, second);
    ASSERT_TRUE(paths_->erase_path(Cidr::host(far_pod(each.family))));
    ASSERT_EQ(from_pod(a_, question).action, TC_ACT_REDIRECT);
    EXPECT_NE(hint(), third);
  }
}

TEST_F(HostPath, ProgramsAndPathsOutliveTheAgent) {
  use_tunnel();
  ASSERT_TRUE(paths_->attach_tunnel(tunnel_));
  EXPECT_TRUE(paths_->attached(uplink_).value());
  EXPECT_TRUE(paths_->attached(tunnel_).value());
  const std::map<Cidr, Path> before = paths_->paths().value();
  auto next = BpfNodePaths::load(path_->pods(), path_->root());
  ASSERT_TRUE(next) << next.error().message();
  EXPECT_EQ((*next)->paths().value(), before);
  EXPECT_FALSE((*next)->attached(uplink_).value()) << "those are of the earlier load";
  EXPECT_EQ((*next)->leftovers({uplink_, tunnel_}).value(), (std::set<std::uint32_t>{uplink_, tunnel_}));
  ASSERT_TRUE((*next)->attach_uplink(uplink_));
  EXPECT_TRUE((*next)->attached(uplink_).value());
  EXPECT_EQ((*next)->leftovers({}).value(), (std::set<std::uint32_t>{tunnel_}));
  EXPECT_FALSE(paths_->attached(uplink_).value());
  // Gone with a word, also where another agent attached it.
  ASSERT_TRUE((*next)->detach(uplink_));
  ASSERT_TRUE((*next)->detach(tunnel_));
  EXPECT_FALSE(paths_->attached(tunnel_).value());
  EXPECT_TRUE((*next)->leftovers({uplink_, tunnel_}).value().empty());
  EXPECT_EQ(from_pod(a_, sent(a_, families()[0].remote, udp(1, 2))).action, TC_ACT_OK) << "no uplink, no redirect";
  EXPECT_TRUE((*next)->detach(99'999)) << "a device that is gone";
  EXPECT_FALSE((*next)->attach_uplink(99'999));
  paths_ = std::move(*next);
  const auto facts = paths_->facts().value();
  for (const auto& [object, programs] : facts) ASSERT_TRUE(path_->add_programs(programs));
}

}  // namespace
}  // namespace fairlead::datapath
