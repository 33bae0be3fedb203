// SPDX-License-Identifier: Apache-2.0
// Services on the packet path: translation both ways, rejection, hairpin, backends that go. By BPF_PROG_RUN.
#include "test/bpf/packet_path_fixture.h"

namespace fairlead::datapath {
namespace {

constexpr std::uint16_t kClient = 40'000;
constexpr std::uint16_t kPort = 80;
constexpr std::uint16_t kTarget = 8080;

// Makes a transport header and payload for ports.
using Make = Transport (*)(std::uint16_t, std::uint16_t);
struct Flow {
  Protocol protocol;
  Make first;
  Make answer;
};

std::vector<Flow> flows() {
  return {
      {Protocol::kUdp, [](std::uint16_t s, std::uint16_t d) { return testkit::udp(s, d, "question"); },
       [](std::uint16_t s, std::uint16_t d) { return testkit::udp(s, d, "odd"); }},
      {Protocol::kTcp, [](std::uint16_t s, std::uint16_t d) { return testkit::tcp(s, d, kSyn); },
       [](std::uint16_t s, std::uint16_t d) { return testkit::tcp(s, d, kSyn | kAck); }},
      {Protocol::kSctp, [](std::uint16_t s, std::uint16_t d) { return testkit::sctp(s, d, 1, Bytes(10, 1)); },
       [](std::uint16_t s, std::uint16_t d) { return testkit::sctp(s, d, 2, Bytes(12, 2)); }},
  };
}

using ServicePath = PacketPath;

TEST_F(ServicePath, ALocalBackendIsReachedAndAnswersAsTheService) {
  for (const FamilyCase& each : families()) {
    for (const Flow& flow : flows()) {
      serve(each.service, kPort, flow.protocol, {{b_.address(each.family), kTarget}});
      for (int round = 0; round < 2; ++round) {
        Verdict verdict = from_pod(a_, sent(a_, each.service, flow.first(kClient, kPort)));
        EXPECT_EQ(verdict.action, TC_ACT_REDIRECT);
        EXPECT_EQ(verdict.packet, received(b_, a_.address(each.family), flow.first(kClient, kTarget)));
        verdict = from_pod(b_, sent(b_, a_.address(each.family), flow.answer(kTarget, kClient)));
        EXPECT_EQ(verdict.action, TC_ACT_REDIRECT);
        EXPECT_EQ(verdict.packet, received(a_, each.service, flow.answer(kPort, kClient)));
      }
    }
    EXPECT_EQ(connections(each.family).size(), flows().size());
  }
}

TEST_F(ServicePath, ARemoteBackendIsReachedThroughTheStackAndAnswersAsTheService) {
  for (const FamilyCase& each : families()) {
    for (const Flow& flow : flows()) {
      const IpAddress client = a_.address(each.family);
      serve(each.service, kPort, flow.protocol, {{each.remote, kTarget}});
      Verdict verdict = from_pod(a_, sent(a_, each.service, flow.first(kClient, kPort)));
      EXPECT_EQ(verdict.action, TC_ACT_OK);
      EXPECT_EQ(verdict.packet, for_stack(a_, client, each.remote, flow.first(kClient, kTarget)));
      verdict = to_pod(a_, from_stack(a_, each.remote, client, flow.answer(kTarget, kClient)));
      EXPECT_EQ(verdict.action, TC_ACT_OK);
      EXPECT_EQ(verdict.packet, from_stack(a_, each.service, client, flow.answer(kPort, kClient)));
    }
  }
}

TEST_F(ServicePath, AUdpChecksumOfZeroStaysSo) {
  const FamilyCase& v4 = families()[0];
  serve(v4.service, kPort, Protocol::kUdp, {{b_.v4(), kTarget}});
  EXPECT_EQ(from_pod(a_, sent(a_, v4.service, testkit::udp_unsummed(kClient, kPort))).packet,
            received(b_, a_.v4(), testkit::udp_unsummed(kClient, kTarget)));
}

TEST_F(ServicePath, EveryPortKeepsTheChecksumsRight) {
  for (const FamilyCase& each : families()) {
    serve(each.service, kPort, Protocol::kUdp, {{b_.address(each.family), kTarget}});
    serve(each.service, kPort, Protocol::kSctp, {{b_.address(each.family), kTarget}});
    for (std::uint16_t port = 1; port < 3000; port += 7) {
      const std::string payload(port % 97, 'x');
      ASSERT_EQ(from_pod(a_, sent(a_, each.service, testkit::udp(port, kPort, payload))).packet,
                received(b_, a_.address(each.family), testkit::udp(port, kTarget, payload)))
          << port;
      ASSERT_EQ(from_pod(a_, sent(a_, each.service, testkit::sctp(port, kPort, 1, Bytes(port % 97, 3)))).packet,
                received(b_, a_.address(each.family), testkit::sctp(port, kTarget, 1, Bytes(port % 97, 3))))
          << port;
    }
  }
}

TEST_F(ServicePath, APodReachesItselfThroughItsService) {
  for (const FamilyCase& each : families()) {
    for (const Flow& flow : flows()) {
      const IpAddress self = a_.address(each.family);
      serve(each.service, kPort, flow.protocol, {{self, kTarget}});
      Verdict verdict = from_pod(a_, sent(a_, each.service, flow.first(kClient, kPort)));
      EXPECT_EQ(verdict.action, TC_ACT_REDIRECT);
      EXPECT_EQ(verdict.packet, received(a_, each.service, flow.first(kClient, kTarget)));
      verdict = from_pod(a_, sent(a_, each.service, flow.answer(kTarget, kClient)));
      EXPECT_EQ(verdict.action, TC_ACT_REDIRECT);
      EXPECT_EQ(verdict.packet, received(a_, each.service, flow.answer(kPort, kClient)));
    }
  }
}

// An answer in place of the Service: to `a`, from `from`, IPv4 with the don't-fragment bit.
Bytes answer(const Pod& pod, const IpAddress& from, const Transport& transport) {
  return frame(pod.from_host(), Ip{from, pod.address(from.family()), 64}, transport);
}

// The port unreachable that quotes the packet in `original` (a frame).
Transport unreachable(const FamilyCase& each, const Bytes& original) {
  Bytes rest(4, 0);
  rest.insert(rest.end(), original.begin() + 14, original.begin() + 14 + static_cast<std::ptrdiff_t>(each.size + 8));
  return each.family == Family::kV4 ? testkit::icmp(3, 3, rest) : testkit::icmp6(1, 4, rest);
}

Transport reset(std::uint16_t source, std::uint16_t destination, std::uint32_t sequence, std::uint32_t acknowledged) {
  Transport out = testkit::tcp(source, destination, acknowledged == 0 ? kRst : kRst | kAck, "", sequence, acknowledged);
  testkit::set16(out.bytes, 14, 0);  // window
  return out;
}

TEST_F(ServicePath, WhatIsNotServedIsRejectedToTheSender) {
  for (const FamilyCase& each : families()) {
    serve(each.service, kPort, Protocol::kTcp, {});
    serve(each.service, kPort, Protocol::kUdp, {});
    for (const auto& [port, reason] : {std::pair{kPort, "no_backend"}, {kTarget, "no_service_port"}}) {
      const std::uint64_t before = count(reason);
      const Transport syn = testkit::tcp(kClient, port, kSyn, "early");
      Verdict verdict = from_pod(a_, sent(a_, each.service, syn));
      EXPECT_EQ(verdict.action, TC_ACT_REDIRECT);
      EXPECT_EQ(verdict.packet, answer(a_, each.service, reset(port, kClient, 0, 1000 + 5 + 1))) << reason;
      const Bytes datagram = sent(a_, each.service, testkit::udp(kClient, port, "a longer datagram than is quoted"));
      verdict = from_pod(a_, datagram);
      EXPECT_EQ(verdict.action, TC_ACT_REDIRECT);
      EXPECT_EQ(verdict.packet, answer(a_, each.service, unreachable(each, datagram))) << reason;
      EXPECT_EQ(count(reason), before + 2);
    }
    // Also shorter ones than the answer, and pings.
    const Bytes tiny = sent(a_, each.service, testkit::udp(kClient, kPort, ""));
    EXPECT_EQ(from_pod(a_, tiny).packet, answer(a_, each.service, unreachable(each, tiny)));
    const Bytes ping = sent(a_, each.service, each.family == Family::kV4 ? testkit::icmp(8) : testkit::icmp6(128));
    EXPECT_EQ(from_pod(a_, ping).packet, answer(a_, each.service, unreachable(each, ping)));
    // Nobody answers a reset.
    const std::uint64_t before = count("no_service_port");
    expect_drop(from_pod(a_, sent(a_, each.service, testkit::tcp(kClient, kTarget, kRst))), "no_service_port", before);
    EXPECT_TRUE(connections(each.family).empty());
  }
}

TEST_F(ServicePath, AConnectionThatNobodyKnowsIsResetAndNotGivenAway) {
  for (const FamilyCase& each : families()) {
    serve(each.service, kPort, Protocol::kTcp, {{b_.address(each.family), kTarget}});
    std::uint64_t before = count("no_connection");
    const Transport data = testkit::tcp(kClient, kPort, kAck, "data", 1000, 0x12340000);
    const Verdict verdict = from_pod(a_, sent(a_, each.service, data));
    EXPECT_EQ(verdict.action, TC_ACT_REDIRECT);
    EXPECT_EQ(verdict.packet, answer(a_, each.service, reset(kPort, kClient, 0x12340000, 0)));
    EXPECT_EQ(count("no_connection"), ++before);
    expect_drop(from_pod(a_, sent(a_, each.service, testkit::tcp(kClient, kPort, kRst))), "no_connection", before);
    EXPECT_TRUE(connections(each.family).empty());
  }
}

TEST_F(ServicePath, AUdpClientGetsAnotherBackendAtOnceWhereItsOwnIsGone) {
  for (const FamilyCase& each : families()) {
    serve(each.service, kPort, Protocol::kUdp, {{each.remote, kTarget}});
    const Bytes datagram = sent(a_, each.service, testkit::udp(kClient, kPort));
    EXPECT_EQ(from_pod(a_, datagram).action, TC_ACT_OK);
    serve(each.service, kPort, Protocol::kUdp, {{b_.address(each.family), kTarget}});
    const Verdict verdict = from_pod(a_, datagram);
    EXPECT_EQ(verdict.action, TC_ACT_REDIRECT);
    EXPECT_EQ(verdict.packet, received(b_, a_.address(each.family), testkit::udp(kClient, kTarget)));
    EXPECT_EQ(connections(each.family).size(), 1U);
  }
}

TEST_F(ServicePath, ATcpConnectionWhoseBackendIsGoneIsReset) {
  for (const FamilyCase& each : families()) {
    serve(each.service, kPort, Protocol::kTcp, {{b_.address(each.family), kTarget}});
    const Bytes syn = sent(a_, each.service, testkit::tcp(kClient, kPort, kSyn));
    const Bytes data = sent(a_, each.service, testkit::tcp(kClient, kPort, kAck, "data"));
    EXPECT_EQ(from_pod(a_, syn).action, TC_ACT_REDIRECT);
    EXPECT_EQ(from_pod(a_, data).action, TC_ACT_REDIRECT);
    const std::uint64_t before = count("backend_gone");
    serve(each.service, kPort, Protocol::kTcp, {{each.remote, kTarget}});
    const Verdict verdict = from_pod(a_, data);
    EXPECT_EQ(verdict.packet, answer(a_, each.service, reset(kPort, kClient, 0, 0)));
    EXPECT_EQ(count("backend_gone"), before + 1);
    EXPECT_TRUE(connections(each.family).empty());
    EXPECT_EQ(from_pod(a_, syn).action, TC_ACT_OK) << "a new one goes to the new backend";
  }
}

TEST_F(ServicePath, AServiceConnectionDoesNotMixWithADirectOneThatLooksTheSame) {
  for (const FamilyCase& each : families()) {
    serve(each.service, kPort, Protocol::kUdp, {{b_.address(each.family), kTarget}});
    EXPECT_EQ(from_pod(a_, sent(a_, each.service, testkit::udp(kClient, kPort))).action, TC_ACT_REDIRECT);
    const std::uint64_t before = count("tuple_taken");
    expect_drop(from_pod(a_, sent(a_, b_.address(each.family), testkit::udp(kClient, kTarget))), "tuple_taken", before);
    age(each.family, 31);
    EXPECT_EQ(from_pod(a_, sent(a_, b_.address(each.family), testkit::udp(kClient, kTarget))).action, TC_ACT_REDIRECT);
    expect_drop(from_pod(a_, sent(a_, each.service, testkit::udp(kClient, kPort))), "tuple_taken", before + 1);
  }
}

TEST_F(ServicePath, LaterFragmentsFollowTheFirst) {
  const FamilyCase& v4 = families()[0];
  serve(v4.service, kPort, Protocol::kUdp, {{b_.v4(), kTarget}});
  const auto fragment = [](const Bytes& whole, std::uint16_t id, std::uint16_t offset) {
    Bytes out = whole;
    testkit::set16(out, 18, id);
    testkit::set16(out, 20, offset);
    testkit::set16(out, 24, 0);
    testkit::set16(out, 24, testkit::checksum(Bytes(out.begin() + 14, out.begin() + 34)));
    return out;
  };
  const Transport rest{17, Bytes(64, 'x')};
  const std::uint64_t before = count("fragment");
  expect_drop(from_pod(a_, fragment(sent(a_, v4.service, rest), 7, 1)), "fragment", before);
  EXPECT_EQ(from_pod(a_, fragment(sent(a_, v4.service, testkit::udp(kClient, kPort)), 7, 0x2000)).packet,
            fragment(received(b_, a_.v4(), testkit::udp(kClient, kTarget)), 7, 0x2000));
  EXPECT_EQ(from_pod(a_, fragment(sent(a_, v4.service, rest), 7, 1)).packet,
            fragment(received(b_, a_.v4(), rest), 7, 1));
  expect_drop(from_pod(a_, fragment(sent(a_, v4.service, rest), 8, 1)), "fragment", before + 1);
}

TEST_F(ServicePath, LaterIpv6FragmentsFollowTheFirst) {
  const FamilyCase& v6 = families()[1];
  serve(v6.service, kPort, Protocol::kUdp, {{b_.v6(), kTarget}});
  // A fragment header in front of what `transport` made, which keeps its checksum.
  const auto fragment = [](const Bytes& whole, std::uint16_t offset) {
    Bytes out = whole;
    const Bytes header{17, 0, static_cast<std::uint8_t>(offset >> 8), static_cast<std::uint8_t>(offset), 0, 0, 0, 9};
    out.insert(out.begin() + 54, header.begin(), header.end());
    testkit::set16(out, 18, static_cast<std::uint16_t>(out.size() - 54));
    out[20] = 44;
    return out;
  };
  const Transport rest{17, Bytes(64, 'x')};
  expect_drop(from_pod(a_, fragment(sent(a_, v6.service, rest), 8)), "fragment", count("fragment"));
  EXPECT_EQ(from_pod(a_, fragment(sent(a_, v6.service, testkit::udp(kClient, kPort)), 1)).packet,
            fragment(received(b_, a_.v6(), testkit::udp(kClient, kTarget)), 1));
  EXPECT_EQ(from_pod(a_, fragment(sent(a_, v6.service, rest), 8)).packet, fragment(received(b_, a_.v6(), rest), 8));
}

// An ICMP error of type and code for `too big`, about the packet in `frame`, cut to `quoted` bytes of its transport.
Transport too_big(const FamilyCase& each, const Bytes& original, std::size_t quoted) {
  Bytes rest{0, 0, 0x05, 0x14};
  rest.insert(rest.end(), original.begin() + 14,
              original.begin() + 14 + static_cast<std::ptrdiff_t>(each.size + quoted));
  return each.family == Family::kV4 ? testkit::icmp(3, 4, rest) : testkit::icmp6(2, 0, rest);
}

TEST_F(ServicePath, ErrorsAboutAConnectionAreTranslatedAsItIs) {
  for (const FamilyCase& each : families()) {
    for (const Flow& flow : flows()) {
      for (const std::size_t quoted : {std::size_t{8}, std::size_t{20}}) {
        // A checksum that covers what is cut off cannot be told right from wrong: SCTP's stays as it is.
        if (flow.protocol != Protocol::kTcp && quoted > 8) continue;
        const IpAddress client = a_.address(each.family);
        const IpAddress router = ip(each.family == Family::kV4 ? "198.51.100.1" : "2001:db8:1::1");
        serve(each.service, kPort, flow.protocol, {{each.remote, kTarget}});
        const Bytes out = sent(a_, each.service, flow.first(kClient, kPort));
        const Bytes translated = for_stack(a_, client, each.remote, flow.first(kClient, kTarget));
        ASSERT_EQ(from_pod(a_, out).packet, translated);
        // A router on the way, and the backend itself.
        for (const auto& [from, seen] : {std::pair{router, router}, {each.remote, each.service}}) {
          const Verdict verdict = to_pod(a_, from_stack(a_, from, client, too_big(each, translated, quoted)));
          EXPECT_EQ(verdict.action, TC_ACT_OK);
          EXPECT_EQ(verdict.packet, from_stack(a_, seen, client, too_big(each, out, quoted)))
              << each.service.str() << " " << static_cast<int>(flow.protocol) << " " << quoted;
        }
        // The client about what it got.
        const Bytes answered = from_stack(a_, each.service, client, flow.answer(kPort, kClient));
        const Bytes as_sent = from_stack(a_, each.remote, client, flow.answer(kTarget, kClient));
        ASSERT_EQ(to_pod(a_, as_sent).packet, answered);
        EXPECT_EQ(from_pod(a_, for_stack(a_, client, each.service, too_big(each, answered, quoted))).packet,
                  for_stack(a_, client, each.remote, too_big(each, as_sent, quoted)));
      }
    }
  }
}

TEST_F(ServicePath, AnAnsweredConnectionTellsItsLeastConnectionsAndHits) {
  const FamilyCase& v4 = families()[0];
  serve(v4.service, kPort, Protocol::kUdp, {{b_.v4(), kTarget}});
  EXPECT_EQ(from_pod(a_, sent(a_, v4.service, testkit::udp(kClient, kPort))).action, TC_ACT_REDIRECT);
  const std::vector<ct_head> there = connections(Family::kV4);
  ASSERT_EQ(there.size(), 1U);
  const auto uses = Map<std::uint32_t, backend_use>::open(path_->root().map_path("use4")).value();
  EXPECT_EQ(uses.lookup(there[0].backend).value()->open, 1U);
  age(Family::kV4, 31);
  sweep();
  EXPECT_EQ(uses.lookup(there[0].backend).value()->open, 0U);
}

}  // namespace
}  // namespace fairlead::datapath
