// SPDX-License-Identifier: Apache-2.0
// Connections on the packet path: what begins, moves and ends them, and what happens where there is no room. By
// BPF_PROG_RUN, row by row of docs/packet-path.md.
#include <bpf/libbpf.h>

#include <arpa/inet.h>

#include <cstring>

#include "bpf/abi/event.h"
#include "test/bpf/packet_path_fixture.h"
#include "test/kit/process.h"

namespace fairlead::datapath {
namespace {

constexpr std::uint16_t kClient = 40'000;
constexpr std::uint16_t kServer = 80;

class ConnectionPath : public PacketPath {
 protected:
  // A packet of the connection from `a` to somewhere beyond the node: there or, as a reply, back.
  static Verdict send(const FamilyCase& each, bool reply, const Transport& transport) {
    const IpAddress client = a_.address(each.family);
    return reply ? to_pod(a_, from_stack(a_, each.remote, client, transport))
                 : from_pod(a_, sent(a_, each.remote, transport));
  }
  static Verdict tcp(const FamilyCase& each, bool reply, std::uint8_t flags) {
    return send(each, reply, reply ? testkit::tcp(kServer, kClient, flags) : testkit::tcp(kClient, kServer, flags));
  }
  static Verdict sctp(const FamilyCase& each, bool reply, std::uint8_t chunk) {
    return send(each, reply, reply ? testkit::sctp(kServer, kClient, chunk) : testkit::sctp(kClient, kServer, chunk));
  }
  static Verdict udp(const FamilyCase& each, bool reply, std::uint16_t port = kClient) {
    return send(each, reply, reply ? testkit::udp(kServer, port) : testkit::udp(port, kServer));
  }
  static Transport echo(const FamilyCase& each, bool answer) {
    if (each.family == Family::kV4) return testkit::icmp(answer ? 0 : 8);
    return testkit::icmp6(answer ? 129 : 128);
  }

  // The only connection there is.
  static ct_head only(const FamilyCase& each) {
    const std::vector<ct_head> all = connections(each.family);
    EXPECT_EQ(all.size(), 1U);
    return all.empty() ? ct_head{} : all.front();
  }
  static bool is_answered(const ct_head& head) { return (head.tag & CT_LIFE_MASK) == CT_ANSWERED; }
  // Which it is, whatever became of it: a slot in one generation of it.
  static std::uint32_t generation(const ct_head& head) { return head.tag >> CT_LIFE_BITS; }

  // Its state is this one, and it lives on for that state's time-out.
  static void expect_state(const FamilyCase& each, std::uint8_t state, const std::string& after) {
    const ct_head head = only(each);
    EXPECT_EQ(head.state, state) << after;
    const std::uint32_t left = (head.deadline - sweep()) / hz();
    EXPECT_LE(left, kSeconds[state]) << after;
    EXPECT_GE(left + 2, kSeconds[state]) << after;
  }

  static constexpr std::uint32_t kSeconds[] = {0,
#define STATE_SECONDS(number, constant, name, seconds) seconds,
                                               CT_STATES(STATE_SECONDS)
#undef STATE_SECONDS
  };
};

constexpr bool kThere = false;
constexpr bool kBack = true;

TEST_F(ConnectionPath, BothDirectionsShareOneWhicheverBegins) {
  for (const FamilyCase& each : families()) {
    for (const bool first : {kThere, kBack}) {
      EXPECT_EQ(udp(each, first).action, TC_ACT_OK);
      expect_state(each, CT_UDP_SINGLE, "the first");
      EXPECT_FALSE(is_answered(only(each)));
      EXPECT_EQ(udp(each, first).action, TC_ACT_OK);
      expect_state(each, CT_UDP_SINGLE, "another of the same end");
      EXPECT_EQ(udp(each, !first).action, TC_ACT_OK);
      expect_state(each, CT_UDP_STREAM, "the answer");
      EXPECT_TRUE(is_answered(only(each)));
      condemn(each.family);
    }
  }
}

TEST_F(ConnectionPath, PodsAreTrackedAmongThemselvesOnce) {
  for (const FamilyCase& each : families()) {
    const Transport question = testkit::udp(kClient, kServer);
    const Transport answer = testkit::udp(kServer, kClient);
    EXPECT_EQ(from_pod(a_, sent(a_, b_.address(each.family), question)).action, TC_ACT_REDIRECT);
    EXPECT_EQ(from_pod(b_, sent(b_, a_.address(each.family), answer)).action, TC_ACT_REDIRECT);
    expect_state(each, CT_UDP_STREAM, "the answer");
  }
}

struct Step {
  bool reply;
  std::uint8_t flags;
  std::uint8_t state;
};
using Steps = std::vector<Step>;

const Steps kHandshake{{kThere, kSyn, CT_TCP_SYN_SENT},    {kThere, kSyn, CT_TCP_SYN_SENT},
                       {kBack, kAck, CT_TCP_SYN_SENT},     {kBack, kSyn | kAck, CT_TCP_SYN_RECV},
                       {kBack, kAck, CT_TCP_SYN_RECV},     {kThere, kAck, CT_TCP_ESTABLISHED},
                       {kThere, kSyn, CT_TCP_ESTABLISHED}, {kBack, kAck, CT_TCP_ESTABLISHED}};

Steps after_handshake(const Steps& more) {
  Steps all = kHandshake;
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

TEST_F(ConnectionPath, AShapedPodIsReachedThroughItsQdiscAndJudgedOnce) {
  Pod shaped = b_;
  shaped.endpoint.shaped = true;
  ASSERT_TRUE(path_->pods().upsert(shaped.endpoint));
  for (const FamilyCase& each : families()) {
    const std::uint64_t before = count("forwarded");
    const Verdict sent_on = from_pod(a_, sent(a_, b_.address(each.family), testkit::udp(1000, 53)));
    EXPECT_EQ(sent_on.action, TC_ACT_REDIRECT);
    EXPECT_EQ(sent_on.packet, received(b_, a_.address(each.family), testkit::udp(1000, 53)));
    ASSERT_NE(sent_on.mark, 0);
    // At the egress of its device: neither judged, nor counted, nor tracked again.
    const testkit::Place egress{.ifindex = b_.endpoint.ifindex, .mark = sent_on.mark, .from = a_.endpoint.ifindex};
    const Verdict passed = path_->run("host_to_pod", egress, sent_on.packet).value();
    EXPECT_EQ(passed.action, TC_ACT_OK);
    EXPECT_EQ(passed.packet, sent_on.packet);
    EXPECT_EQ(passed.mark, 0) << "it would pass elsewhere, too";
    EXPECT_EQ(count("forwarded"), before + 1);
    EXPECT_EQ(connections(each.family).size(), 1);
    // What the host sends there under another mark is judged as ever.
    const testkit::Place own{.ifindex = b_.endpoint.ifindex, .mark = sent_on.mark + 1};
    const Bytes foreign = frame(b_.from_host(), Ip{each.remote, a_.address(each.family)}, testkit::udp(1, 2));
    EXPECT_EQ(path_->run("host_to_pod", own, foreign).value().action, TC_ACT_SHOT);
  }
  EXPECT_EQ(path_->pods().endpoints().back(), shaped.endpoint);
  ASSERT_TRUE(path_->pods().upsert(b_.endpoint));
  EXPECT_EQ(from_pod(a_, sent(a_, b_.v4(), testkit::udp(1000, 53))).mark, 0);
}

TEST_F(ConnectionPath, TcpMovesAsItsFlagsSay) {
  const std::vector<Steps> stories{
      // Either end closes first, and every packet may come twice.
      after_handshake({{kThere, kFin | kAck, CT_TCP_FIN_WAIT},
                       {kThere, kFin | kAck, CT_TCP_FIN_WAIT},
                       {kThere, kAck, CT_TCP_FIN_WAIT},
                       {kBack, kAck, CT_TCP_CLOSE_WAIT},
                       {kThere, kFin | kAck, CT_TCP_CLOSE_WAIT},
                       {kBack, kFin | kAck, CT_TCP_LAST_ACK},
                       {kBack, kAck, CT_TCP_LAST_ACK},
                       {kThere, kAck, CT_TCP_TIME_WAIT},
                       {kBack, kFin | kAck, CT_TCP_TIME_WAIT}}),
      after_handshake({{kBack, kFin | kAck, CT_TCP_FIN_WAIT},
                       {kThere, kFin | kAck, CT_TCP_LAST_ACK},
                       {kThere, kAck, CT_TCP_LAST_ACK},
                       {kBack, kAck, CT_TCP_TIME_WAIT}}),
      // A reset that its receiver did not believe: its supposed sender goes on.
      after_handshake({{kBack, kRst, CT_TCP_CLOSED}, {kThere, kAck, CT_TCP_CLOSED}, {kBack, kAck, CT_TCP_ESTABLISHED}}),
      {{kThere, kSyn, CT_TCP_SYN_SENT}, {kBack, kRst | kAck, CT_TCP_CLOSED}},
      // Simultaneous open.
      {{kThere, kSyn, CT_TCP_SYN_SENT}, {kBack, kSyn, CT_TCP_SYN_RECV}, {kThere, kSyn | kAck, CT_TCP_ESTABLISHED}},
      {{kThere, kSyn, CT_TCP_SYN_SENT}, {kBack, kSyn | kAck, CT_TCP_SYN_RECV}, {kThere, kFin | kAck, CT_TCP_FIN_WAIT}},
      // Mid-stream.
      {{kThere, kAck, CT_TCP_MIDSTREAM}, {kThere, kAck, CT_TCP_MIDSTREAM}, {kBack, kAck, CT_TCP_ESTABLISHED}},
      {{kThere, kFin | kAck, CT_TCP_MIDSTREAM}, {kBack, kFin | kAck, CT_TCP_FIN_WAIT}},
      {{kThere, kSyn | kAck, CT_TCP_MIDSTREAM}},
      {{kThere, 0, CT_TCP_MIDSTREAM}, {kBack, 0, CT_TCP_MIDSTREAM}},
  };
  for (const FamilyCase& each : families()) {
    for (std::size_t story = 0; story < stories.size(); ++story) {
      std::uint32_t born = 0;
      for (std::size_t i = 0; i < stories[story].size(); ++i) {
        const Step& step = stories[story][i];
        ASSERT_EQ(tcp(each, step.reply, step.flags).action, TC_ACT_OK);
        expect_state(each, step.state, fmt::format("story {}, step {}", story, i));
        if (i == 0) born = generation(only(each));
        EXPECT_EQ(generation(only(each)), born);
      }
      condemn(each.family);
      sweep();
    }
  }
}

TEST_F(ConnectionPath, ASynBeginsAnewWhereTheOldOneIsOver) {
  const std::vector<Steps> endings{
      {{kThere, kSyn, 0}, {kBack, kRst | kAck, CT_TCP_CLOSED}},
      after_handshake({{kThere, kFin | kAck, 0}, {kBack, kFin | kAck, 0}, {kThere, kAck, CT_TCP_TIME_WAIT}}),
      {{kThere, kAck, CT_TCP_MIDSTREAM}},
  };
  for (const FamilyCase& each : families()) {
    for (const Steps& ending : endings) {
      for (const bool from : {kThere, kBack}) {
        for (const Step& step : ending) ASSERT_EQ(tcp(each, step.reply, step.flags).action, TC_ACT_OK);
        const std::uint64_t before = generation(only(each));
        EXPECT_EQ(only(each).state, ending.back().state);
        EXPECT_EQ(tcp(each, from, kSyn).action, TC_ACT_OK);
        expect_state(each, CT_TCP_SYN_SENT, "SYN");
        EXPECT_NE(generation(only(each)), before);
        EXPECT_EQ(tcp(each, !from, kSyn | kAck).action, TC_ACT_OK);
        expect_state(each, CT_TCP_SYN_RECV, "its answer, from the other end");
        condemn(each.family);
        sweep();
      }
    }
  }
}

TEST_F(ConnectionPath, ResetsBeginNothing) {
  for (const FamilyCase& each : families()) {
    for (const bool reply : {kThere, kBack}) {
      EXPECT_EQ(tcp(each, reply, kRst).action, TC_ACT_OK);
      EXPECT_EQ(sctp(each, reply, 6).action, TC_ACT_OK);
      EXPECT_EQ(sctp(each, reply, 14).action, TC_ACT_OK);
    }
    EXPECT_TRUE(connections(each.family).empty());
  }
}

TEST_F(ConnectionPath, SctpMovesAsItsChunksSay) {
  const std::vector<Steps> stories{
      {{kThere, 1, CT_SCTP_COOKIE_WAIT},
       {kBack, 2, CT_SCTP_COOKIE_WAIT},
       {kThere, 10, CT_SCTP_COOKIE_ECHOED},
       {kThere, 11, CT_SCTP_COOKIE_ECHOED},
       {kBack, 11, CT_SCTP_ESTABLISHED},
       {kThere, 0, CT_SCTP_ESTABLISHED},
       {kThere, 1, CT_SCTP_ESTABLISHED},
       {kBack, 7, CT_SCTP_SHUTDOWN},
       {kThere, 8, CT_SCTP_SHUTDOWN},
       {kBack, 14, CT_SCTP_CLOSED},
       {kBack, 1, CT_SCTP_COOKIE_WAIT}},
      {{kBack, 0, CT_SCTP_ESTABLISHED}, {kThere, 6, CT_SCTP_CLOSED}, {kThere, 1, CT_SCTP_COOKIE_WAIT}},
  };
  for (const FamilyCase& each : families()) {
    for (const Steps& story : stories) {
      for (const Step& step : story) {
        ASSERT_EQ(sctp(each, step.reply, step.flags).action, TC_ACT_OK);
        expect_state(each, step.state, fmt::format("chunk {}", step.flags));
      }
      condemn(each.family);
      sweep();
    }
  }
}

TEST_F(ConnectionPath, EchoesAreOneByTheirIdentifier) {
  for (const FamilyCase& each : families()) {
    const std::uint64_t before = count("no_connection");
    expect_drop(send(each, kBack, echo(each, true)), "no_connection", before);
    EXPECT_EQ(send(each, kThere, echo(each, false)).action, TC_ACT_OK);
    EXPECT_EQ(send(each, kBack, echo(each, true)).action, TC_ACT_OK);
    expect_state(each, CT_ICMP, "the answer");
    EXPECT_TRUE(is_answered(only(each)));
  }
}

TEST_F(ConnectionPath, OtherProtocolsAreTrackedByTheirAddresses) {
  for (const FamilyCase& each : families()) {
    const Transport esp{50, Bytes(16, 1)};
    EXPECT_EQ(send(each, kThere, esp).action, TC_ACT_OK);
    EXPECT_EQ(send(each, kBack, esp).action, TC_ACT_OK);
    expect_state(each, CT_OTHER, "both ends");
  }
}

TEST_F(ConnectionPath, PastItsDeadlineItIsAbsentAndTheSweepEndsIt) {
  for (const FamilyCase& each : families()) {
    EXPECT_EQ(udp(each, kThere).action, TC_ACT_OK);
    EXPECT_EQ(udp(each, kBack).action, TC_ACT_OK);
    age(each.family, kSeconds[CT_UDP_STREAM] - 2);
    sweep();
    EXPECT_TRUE(is_answered(only(each))) << "there is time left";
    age(each.family, 4);
    const std::uint32_t before = generation(only(each));
    EXPECT_EQ(udp(each, kBack).action, TC_ACT_OK);
    EXPECT_NE(generation(only(each)), before) << "the packet that met it began another";
    EXPECT_FALSE(is_answered(only(each)));
    age(each.family, kSeconds[CT_UDP_SINGLE] + 2);
    sweep();
    EXPECT_TRUE(connections(each.family).empty());
  }
}

TEST_F(ConnectionPath, TheKernelSweepsWithoutAnAgent) {
  for (const FamilyCase& each : families()) {
    EXPECT_EQ(udp(each, kThere).action, TC_ACT_OK);
    age(each.family, kSeconds[CT_UDP_SINGLE] + 2);
  }
  for (const FamilyCase& each : families()) {
    EXPECT_TRUE(testkit::eventually([&] { return connections(each.family).empty(); }));
  }
}

TEST_F(ConnectionPath, WhatTheAgentCondemnsIsAbsent) {
  for (const FamilyCase& each : families()) {
    EXPECT_EQ(udp(each, kThere).action, TC_ACT_OK);
    EXPECT_EQ(udp(each, kBack).action, TC_ACT_OK);
    condemn(each.family);
    EXPECT_TRUE(connections(each.family).empty());
    EXPECT_EQ(udp(each, kBack).action, TC_ACT_OK);
    EXPECT_FALSE(is_answered(only(each)));
  }
}

TEST_F(ConnectionPath, ErrorsBelongToAConnectionOrGoNowhere) {
  for (const FamilyCase& each : families()) {
    const IpAddress client = a_.address(each.family);
    const IpAddress router = ip(each.family == Family::kV4 ? "198.51.100.1" : "2001:db8:1::1");
    const auto error = [&](const IpAddress& to, const Bytes& about, std::size_t quoted) {
      Bytes rest{0, 0, 0, 0};
      rest.insert(rest.end(), about.begin() + 14, about.begin() + 14 + static_cast<std::ptrdiff_t>(quoted));
      return from_stack(a_, router, to,
                        each.family == Family::kV4 ? testkit::icmp(11, 0, rest) : testkit::icmp6(3, 0, rest));
    };
    const Bytes datagram = sent(a_, each.remote, testkit::udp(kClient, kServer));
    std::uint64_t before = count("icmp_error");
    expect_drop(to_pod(a_, error(client, datagram, each.size + 8)), "icmp_error", before++);
    EXPECT_EQ(from_pod(a_, datagram).action, TC_ACT_OK);
    const ct_head was = only(each);
    const Bytes related = error(client, datagram, each.size + 8);
    const Verdict verdict = to_pod(a_, related);
    EXPECT_EQ(verdict.action, TC_ACT_OK);
    EXPECT_EQ(verdict.packet, related);
    const ct_head is = only(each);
    EXPECT_EQ(std::memcmp(&was, &is, sizeof(was)), 0) << "an error moves nothing";
    expect_drop(to_pod(a_, error(client, datagram, each.size + 4)), "icmp_error", before++);
    // About a packet that is not its receiver's.
    const Bytes foreign = sent(b_, each.remote, testkit::udp(kClient, kServer));
    EXPECT_EQ(from_pod(b_, foreign).action, TC_ACT_OK);
    expect_drop(to_pod(a_, error(client, foreign, each.size + 8)), "icmp_error", before++);
  }
}

TEST_F(ConnectionPath, UnansweredOnesMakeRoomAndAnsweredOnesStay) {
  constexpr std::uint32_t kSlots = 64;
  constexpr std::uint32_t kUnanswered = kSlots / 4;
  const auto small = testkit::DataPath::open("small", {.connections = kSlots, .translated = kSlots}).value();
  const Pod pod = small->make_pod(7).value();
  for (const FamilyCase& each : families()) {
    const IpAddress own = pod.address(each.family);
    const auto ask = [&](std::uint16_t port) {
      return small->run("from_pod", pod, for_stack(pod, own, each.remote, testkit::udp(port, kServer))).value().action;
    };
    const auto answer = [&](std::uint16_t port) {
      return small->run("host_to_pod", pod, from_stack(pod, each.remote, own, testkit::udp(kServer, port)))
          .value()
          .action;
    };
    const auto there = [&] { return connections(each.family, *small).size(); };
    for (std::uint16_t port = 1; port <= 200; ++port) ASSERT_EQ(ask(port), TC_ACT_OK);
    EXPECT_EQ(there(), kUnanswered) << "a flood churns its own quarter";
    // Each answered at once leaves the ring, and its slot is its own.
    std::uint16_t port = 1000;
    for (std::uint32_t i = 0; i < kSlots - kUnanswered; ++i, ++port) {
      ASSERT_EQ(ask(port), TC_ACT_OK);
      ASSERT_EQ(answer(port), TC_ACT_OK);
    }
    for (std::uint16_t flood = 1; flood <= 200; ++flood) ASSERT_EQ(ask(flood), TC_ACT_OK);
    // The last quarter goes to answered ones too, while somebody unanswered is left.
    std::uint32_t answered = 0;
    for (; ask(port) == TC_ACT_OK && answered < kSlots; ++port, ++answered) ASSERT_EQ(answer(port), TC_ACT_OK);
    EXPECT_EQ(answered, kUnanswered);
    EXPECT_EQ(there(), kSlots);
    for (const ct_head& head : connections(each.family, *small)) EXPECT_TRUE(is_answered(head));
    EXPECT_EQ(answer(1000), TC_ACT_OK);
    EXPECT_EQ(there(), kSlots) << "the answered ones go on";
  }
  const auto counters = small->pods().counters().value();
  for (const VerdictCount& counter : counters) {
    if (counter.reason == "conntrack_full") {
      EXPECT_EQ(counter.packets, families().size());
    }
  }
}

TEST_F(ConnectionPath, NothingLeaksOverManyLives) {
  const auto small = testkit::DataPath::open("lives", {.connections = 64, .translated = 64}).value();
  const Pod pod = small->make_pod(8).value();
  for (const FamilyCase& each : families()) {
    const IpAddress own = pod.address(each.family);
    // A new connection each time, ended by the SYN of the next.
    for (int i = 0; i < 5000; ++i) {
      const auto port = static_cast<std::uint16_t>(1 + i % 8);
      const Bytes syn = for_stack(pod, own, each.remote, testkit::tcp(port, kServer, kSyn));
      const Bytes reset = from_stack(pod, each.remote, own, testkit::tcp(kServer, port, kRst | kAck));
      ASSERT_EQ(small->run("from_pod", pod, syn).value().action, TC_ACT_OK) << i;
      ASSERT_EQ(small->run("host_to_pod", pod, reset).value().action, TC_ACT_OK) << i;
    }
    EXPECT_EQ(connections(each.family, *small).size(), 8U);
  }
  EXPECT_EQ(index_entries(small->root(), "ct4").size(), 8U);
  EXPECT_EQ(index_entries(small->root(), "ct6").size(), 8U);
}

TEST_F(ConnectionPath, DropsAreToldOnceAndThenCounted) {
  std::vector<drop_event> told;
  const auto take = [](void* to, void* data, std::size_t size) {
    if (size == sizeof(drop_event)) {
      drop_event event{};
      std::memcpy(&event, data, size);
      static_cast<std::vector<drop_event>*>(to)->push_back(event);
    }
    return 0;
  };
  ring_buffer* ring = ring_buffer__new(path_->pods().map_fd("events"), take, &told, nullptr);
  ASSERT_NE(ring, nullptr);
  ring_buffer__consume(ring);
  told.clear();
  const auto drop = [&] { from_pod(b_, sent(a_, ip("192.0.2.99"), testkit::udp(5, 6))); };
  drop();  // of a foreign MAC: nothing else of it was read
  for (int i = 0; i < 10; ++i) drop();
  ring_buffer__consume(ring);
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].kind, EVENT_DROP);
  EXPECT_EQ(told[0].ifindex, b_.endpoint.ifindex);
  EXPECT_EQ(told[0].packets, 1U);
  EXPECT_EQ(told[0].to_pod, 0);
  // Once the interval is over, the next one tells of those in between. (Each processor counts for itself.)
  EXPECT_TRUE(testkit::eventually([&] {
    drop();
    ring_buffer__consume(ring);
    return told.size() > 1 && told.back().packets > 10;
  }));
  const auto events = told.size();
  const FamilyCase& v4 = families()[0];
  expect_drop(send(v4, kBack, echo(v4, true)), "no_connection", count("no_connection"));
  ring_buffer__consume(ring);
  ASSERT_GT(told.size(), events);
  const drop_event& last = told.back();
  const std::array<std::uint32_t, 4> mapped{0, 0, htonl(0xffff), v4.remote.v4_be()};
  EXPECT_EQ(std::memcmp(&last.source, mapped.data(), sizeof(mapped)), 0);
  EXPECT_EQ(last.protocol, 1);
  EXPECT_EQ(last.to_pod, 1);
  ring_buffer__free(ring);
}

}  // namespace
}  // namespace fairlead::datapath
