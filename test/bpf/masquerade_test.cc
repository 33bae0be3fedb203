// SPDX-License-Identifier: Apache-2.0
// What pods say to the world and what it answers: from_pod, from_uplink and to_uplink in turn, packet by packet.
#include <set>

#include "test/bpf/node_path_fixture.h"

namespace fairlead::datapath {
namespace {

using testkit::fragments;
using testkit::icmp;
using testkit::icmp6;
using testkit::sctp;
using testkit::tcp;
using testkit::udp;

constexpr std::uint16_t kKept = 61'005;  // a port of the masquerade's range

class MasqueradePath : public NodePath {};

bool is_of_range(std::uint16_t port) {
  return port >= 61'000;
}

TEST_F(MasqueradePath, EveryProtocolLeavesUnderTheNodesAddressAndComesBack) {
  struct Flow {
    std::string name;
    Transport there, back;
  };
  for (const FamilyCase& each : families()) {
    for (const Flow& flow : {
             Flow{"UDP", udp(kKept, 53), udp(53, kKept, "an answer")},
             Flow{"TCP", tcp(kKept, 80, kSyn), tcp(80, kKept, kSyn | kAck)},
             Flow{"SCTP", sctp(kKept, 90), sctp(90, kKept, 2)},
             Flow{"ICMP", echo(each.family, true, kKept), echo(each.family, false, kKept)},
             Flow{"GRE", {47, Bytes(24, 1)}, {47, Bytes(30, 2)}},
         }) {
      SCOPED_TRACE(flow.name);
      const Verdict there = from_pod(a_, sent(a_, each.remote, flow.there));
      EXPECT_EQ(there.action, TC_ACT_REDIRECT);
      EXPECT_EQ(there.packet, left(a_, own(each.family), each.remote, flow.there));
      const Verdict back = from_uplink(came(each.remote, own(each.family), flow.back));
      EXPECT_EQ(back.action, TC_ACT_REDIRECT);
      EXPECT_EQ(back.packet, received(a_, each.remote, flow.back));
      EXPECT_EQ(connections(each.family).size(), 1);
      condemn(each.family);
      sweep();
    }
  }
}

TEST_F(MasqueradePath, APortOutsideTheRangeBecomesOneOfIt) {
  for (const FamilyCase& each : families()) {
    for (const std::string name : {"UDP", "TCP", "ICMP"}) {
      SCOPED_TRACE(name);
      const auto make = [&](bool there, std::uint16_t port) {
        if (name == "ICMP") return echo(each.family, there, port);
        if (name == "TCP") return there ? tcp(port, 80, kSyn) : tcp(80, port, kSyn | kAck);
        return there ? udp(port, 80) : udp(80, port);
      };
      const Verdict there = from_pod(a_, sent(a_, each.remote, make(true, 1234)));
      EXPECT_EQ(there.action, TC_ACT_REDIRECT);
      const std::size_t id_at = 14 + each.size + 4;
      const std::uint16_t port =
          name == "ICMP" ? static_cast<std::uint16_t>(there.packet.at(id_at) << 8 | there.packet.at(id_at + 1))
                         : source_port(there.packet, each.family);
      EXPECT_TRUE(is_of_range(port)) << port;
      EXPECT_EQ(there.packet, left(a_, own(each.family), each.remote, make(true, port)));
      EXPECT_EQ(from_uplink(came(each.remote, own(each.family), make(false, port))).packet,
                received(a_, each.remote, make(false, 1234)));
      EXPECT_EQ(from_pod(a_, sent(a_, each.remote, make(true, 1234))).packet, there.packet) << "the second packet";
    }
  }
}

TEST_F(MasqueradePath, ConnectionsThatWouldLookTheSameGetPortsOfTheirOwn) {
  for (const FamilyCase& each : families()) {
    const Transport question = udp(kKept, 53);
    EXPECT_EQ(source_port(from_pod(a_, sent(a_, each.remote, question)).packet, each.family), kKept);
    const Verdict other = from_pod(b_, sent(b_, each.remote, question));
    const std::uint16_t port = source_port(other.packet, each.family);
    EXPECT_TRUE(is_of_range(port));
    EXPECT_NE(port, kKept);
    EXPECT_EQ(other.packet, left(b_, own(each.family), each.remote, udp(port, 53)));
    // Each its own answer.
    EXPECT_EQ(from_uplink(came(each.remote, own(each.family), udp(53, kKept))).packet,
              received(a_, each.remote, udp(53, kKept)));
    EXPECT_EQ(from_uplink(came(each.remote, own(each.family), udp(53, port))).packet,
              received(b_, each.remote, udp(53, kKept)));
    // Another remote end, another list of ports.
    EXPECT_EQ(source_port(from_pod(b_, sent(b_, each.remote, udp(kKept, 54))).packet, each.family), kKept);
  }
}

TEST_F(MasqueradePath, WithoutAFreePortItIsDroppedByName) {
  ASSERT_TRUE(paths_->set_masquerade(
      {.addresses = {own(Family::kV4), own(Family::kV6)}, .first_port = 61'000, .last_port = 61'001}));
  for (const FamilyCase& each : families()) {
    std::set<std::uint16_t> ports;
    for (std::uint16_t client = 1; client <= 2; ++client) {
      ports.insert(source_port(from_pod(a_, sent(a_, each.remote, udp(client, 53))).packet, each.family));
    }
    EXPECT_EQ(ports, (std::set<std::uint16_t>{61'000, 61'001}));
    const std::uint64_t before = count("no_port");
    expect_drop(from_pod(a_, sent(a_, each.remote, udp(3, 53))), "no_port", before);
    EXPECT_EQ(connections(each.family).size(), 2) << "a slot was lost";
    EXPECT_EQ(from_pod(a_, sent(a_, each.remote, udp(3, 54))).action, TC_ACT_REDIRECT) << "to another port";
    // One that is over makes room.
    age(each.family, 200'000);
    EXPECT_EQ(from_pod(a_, sent(a_, each.remote, udp(3, 53))).action, TC_ACT_REDIRECT);
  }
  ASSERT_TRUE(paths_->set_masquerade({.addresses = {own(Family::kV4), own(Family::kV6)}}));
}

TEST_F(MasqueradePath, AProtocolWithoutPortsHasOneConnectionARemote) {
  for (const FamilyCase& each : families()) {
    const Transport gre{47, Bytes(24, 1)};
    EXPECT_EQ(from_pod(a_, sent(a_, each.remote, gre)).action, TC_ACT_REDIRECT);
    const std::uint64_t before = count("tuple_taken");
    expect_drop(from_pod(b_, sent(b_, each.remote, gre)), "tuple_taken", before);
  }
}

TEST_F(MasqueradePath, WhatStaysInTheClusterKeepsItsAddress) {
  for (const FamilyCase& each : families()) {
    const Transport question = udp(kKept, 53);
    const Verdict there = from_pod(a_, sent(a_, far_pod(each.family), question));
    EXPECT_EQ(there.action, TC_ACT_REDIRECT);
    EXPECT_EQ(there.packet, left(a_, a_.address(each.family), far_pod(each.family), question));
    // The node itself is the stack's.
    EXPECT_EQ(from_pod(a_, sent(a_, own(each.family), question)).action, TC_ACT_OK);
    EXPECT_EQ(from_pod(a_, sent(a_, own(each.family), question)).packet, sent(a_, own(each.family), question));
    // A direct range.
    ASSERT_TRUE(paths_->set_path(Cidr::host(each.remote), {}));
    EXPECT_EQ(from_pod(a_, sent(a_, each.remote, question)).packet,
              left(a_, a_.address(each.family), each.remote, question));
    for (const ct_head& head : connections(each.family)) EXPECT_EQ(head.flags & CT_TRANSLATED, 0);
  }
}

TEST_F(MasqueradePath, WithoutAnAddressNothingIsMasqueraded) {
  ASSERT_TRUE(paths_->set_masquerade({}));
  for (const FamilyCase& each : families()) {
    EXPECT_EQ(from_pod(a_, sent(a_, each.remote, udp(kKept, 53))).packet,
              left(a_, a_.address(each.family), each.remote, udp(kKept, 53)));
  }
}

TEST_F(MasqueradePath, AServiceMayHaveItsBackendOutside) {
  for (const FamilyCase& each : families()) {
    serve(each.service, 53, Protocol::kUdp, {{each.remote, 5353}});
    const Verdict there = from_pod(a_, sent(a_, each.service, udp(kKept, 53)));
    EXPECT_EQ(there.action, TC_ACT_REDIRECT);
    EXPECT_EQ(there.packet, left(a_, own(each.family), each.remote, udp(kKept, 5353)));
    EXPECT_EQ(from_uplink(came(each.remote, own(each.family), udp(5353, kKept))).packet,
              received(a_, each.service, udp(53, kKept)));
  }
}

TEST_F(MasqueradePath, WhatTheStackHasToAnswerItGetsAsThePodSentIt) {
  for (const FamilyCase& each : families()) {
    const Bytes last_hop = frame(a_.to_host(), Ip{a_.address(each.family), each.remote, 1}, udp(kKept, 53));
    const Verdict dies = from_pod(a_, last_hop);
    EXPECT_EQ(dies.action, TC_ACT_OK);
    EXPECT_EQ(dies.packet, last_hop);
    // Whose neighbour is not known, the stack asks for; when it knows, it sends, and what leaves is masqueraded.
    const IpAddress silent = each.family == Family::kV4 ? ip("192.0.2.8") : ip("2001:db8::8");
    const Bytes asked = sent(a_, silent, udp(kKept, 53));
    const Verdict waits = from_pod(a_, asked);
    EXPECT_EQ(waits.action, TC_ACT_OK);
    EXPECT_EQ(waits.packet, asked);
    const Verdict out = to_uplink(a_, asked);
    EXPECT_EQ(out.action, TC_ACT_UNSPEC);
    EXPECT_EQ(out.packet, for_stack(a_, own(each.family), silent, udp(kKept, 53)));
    EXPECT_EQ(from_uplink(came(silent, own(each.family), udp(53, kKept))).packet, received(a_, silent, udp(53, kKept)));
  }
}

TEST_F(MasqueradePath, TheUplinkLeavesOthersAlone) {
  for (const FamilyCase& each : families()) {
    // The node's own, forwarded from elsewhere, and redirected by a program.
    const Bytes own_packet = for_stack(a_, own(each.family), each.remote, udp(kKept, 53));
    expect_untouched(run("to_uplink", uplink_, own_packet), own_packet);
    const testkit::Place forwarded{.ifindex = uplink_, .from = tunnel_};
    expect_untouched(path_->run("to_uplink", forwarded, own_packet).value(), own_packet);
    const Verdict redirected = from_pod(a_, sent(a_, each.remote, udp(kKept, 53)));
    ASSERT_NE(redirected.mark, 0);
    const testkit::Place marked{.ifindex = uplink_, .mark = redirected.mark, .from = a_.endpoint.ifindex};
    const Verdict passed = path_->run("to_uplink", marked, redirected.packet).value();
    expect_untouched(passed, redirected.packet);
    EXPECT_EQ(passed.mark, 0);
  }
}

TEST_F(MasqueradePath, WhatNobodyAskedForIsTheStacks) {
  for (const FamilyCase& each : families()) {
    for (const Transport& transport :
         {udp(53, kKept), udp(53, 22), tcp(80, kKept, kAck), tcp(80, kKept, kSyn), echo(each.family, false, kKept),
          echo(each.family, true, kKept), Transport{47, Bytes(24, 1)}}) {
      const Bytes packet = came(each.remote, own(each.family), transport);
      const std::uint64_t before = count("forwarded");
      expect_untouched(from_uplink(packet), packet);
      EXPECT_EQ(count("forwarded"), before);
    }
    EXPECT_TRUE(connections(each.family).empty());
  }
}

TEST_F(MasqueradePath, ErrorsFindThePodThatTheyAreFor) {
  for (const FamilyCase& each : families()) {
    const bool v4 = each.family == Family::kV4;
    const IpAddress router = v4 ? ip("198.51.100.1") : ip("2001:db8:1::1");
    const auto error = [&](const Bytes& about) {
      return v4 ? icmp(3, 4, testkit::error_rest(about, 1400)) : icmp6(2, 0, testkit::error_rest(about, 1400));
    };
    for (const Transport& asked : {udp(kKept, 53), tcp(kKept, 80, kSyn), echo(each.family, true, kKept)}) {
      ASSERT_EQ(from_pod(a_, sent(a_, each.remote, asked)).action, TC_ACT_REDIRECT);
      const Bytes outside = testkit::packet(Ip{own(each.family), each.remote, 60}, asked);
      const Bytes inside = testkit::packet(Ip{a_.address(each.family), each.remote, 60}, asked);
      const Verdict told = from_uplink(came(router, own(each.family), error(outside)));
      EXPECT_EQ(told.action, TC_ACT_REDIRECT);
      EXPECT_EQ(told.packet, received(a_, router, error(inside)));
      EXPECT_EQ(from_uplink(came(each.remote, own(each.family), error(outside))).packet,
                received(a_, each.remote, error(inside)));
    }
    // About the node's own, or nobody's.
    for (const Transport& asked : {udp(kKept, 99), udp(99, 53)}) {
      const Bytes packet =
          came(router, own(each.family), error(testkit::packet(Ip{own(each.family), each.remote, 60}, asked)));
      expect_untouched(from_uplink(packet), packet);
    }
    // What the pod says about an answer that it did not want.
    const Bytes answer_in = testkit::packet(Ip{each.remote, a_.address(each.family), 63}, udp(53, kKept));
    const Bytes answer_out = testkit::packet(Ip{each.remote, own(each.family), 63}, udp(53, kKept));
    const Verdict said = from_pod(a_, sent(a_, each.remote, error(answer_in)));
    EXPECT_EQ(said.action, TC_ACT_REDIRECT);
    EXPECT_EQ(said.packet, left(a_, own(each.family), each.remote, error(answer_out)));
  }
}

TEST_F(MasqueradePath, AnIdentifierIsChangedWithinErrorsToo) {
  for (const FamilyCase& each : families()) {
    const bool v4 = each.family == Family::kV4;
    const Bytes out = from_pod(a_, sent(a_, each.remote, echo(each.family, true, 7))).packet;
    const std::size_t id_at = 14 + each.size + 4;
    const auto id = static_cast<std::uint16_t>(out.at(id_at) << 8 | out.at(id_at + 1));
    ASSERT_TRUE(is_of_range(id));
    const auto error = [&](const IpAddress& source, std::uint16_t each_id) {
      const Bytes about = testkit::packet(Ip{source, each.remote, 1}, echo(each.family, true, each_id));
      return v4 ? icmp(11, 0, testkit::error_rest(about)) : icmp6(3, 0, testkit::error_rest(about));
    };
    EXPECT_EQ(from_uplink(came(each.remote, own(each.family), error(own(each.family), id))).packet,
              received(a_, each.remote, error(a_.address(each.family), 7)));
  }
}

TEST_F(MasqueradePath, FragmentsGoAsTheirConnectionSays) {
  for (const FamilyCase& each : families()) {
    const Transport question = udp(kKept, 53, std::string(100, 'q'));
    const Transport answer = udp(53, kKept, std::string(100, 'a'));
    const auto there = fragments(a_.to_host(), Ip{a_.address(each.family), each.remote}, question, 48, 7);
    const auto out = fragments(a_.to_host(), Ip{own(each.family), each.remote, 63}, question, 48, 7);
    for (std::size_t i = 0; i < there.size(); ++i) {
      const Verdict verdict = from_pod(a_, there[i]);
      EXPECT_EQ(verdict.action, TC_ACT_REDIRECT) << i;
      EXPECT_EQ(verdict.packet, out[i]) << i;
    }
    const Bytes frame_of = came(each.remote, own(each.family), answer);
    testkit::Ethernet uplink;
    std::copy_n(frame_of.begin(), 6, uplink.destination.begin());
    std::copy_n(frame_of.begin() + 6, 6, uplink.source.begin());
    const auto back = fragments(uplink, Ip{each.remote, own(each.family)}, answer, 48, 9);
    const auto in = fragments(a_.from_host(), Ip{each.remote, a_.address(each.family), 63}, answer, 48, 9);
    for (std::size_t i = 0; i < back.size(); ++i) EXPECT_EQ(from_uplink(back[i]).packet, in[i]) << i;
    // The node's own datagrams, first fragment or later, are not remembered.
    const auto own_datagram =
        fragments(uplink, Ip{each.remote, own(each.family)}, udp(53, 99, std::string(100, 'a')), 48, 11);
    for (const Bytes& fragment : own_datagram) expect_untouched(from_uplink(fragment), fragment);
  }
}

}  // namespace
}  // namespace fairlead::datapath
