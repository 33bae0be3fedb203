// SPDX-License-Identifier: Apache-2.0
// Nobody slips past a policy by what connection tracking remembers, or by looking like a reply; and a denial says whose
// policy it is.
#include "agent/datapath/drop_events.h"
#include "test/bpf/policy_path_fixture.h"
#include "test/kit/process.h"

namespace fairlead::datapath {
namespace {

constexpr std::uint16_t kListening = 8080;  // of the isolated pod, which once used it as a client, too

class PolicySlip : public PolicyPath {
 protected:
  // b lets nobody in, and may go anywhere.
  void SetUp() override {
    PolicyPath::SetUp();
    put(kRules, {});
    bind(b_, kRules, 0);
  }
  void expect_denied(const Pod& from, const Pod& to, Family family, const Transport& transport, const std::string& what,
                     const std::string& reason = "policy_ingress") {
    const std::uint64_t before = count(reason);
    EXPECT_FALSE(passes(from, to, family, transport)) << what;
    EXPECT_EQ(count(reason), before + 1) << what;
  }
  static void forget(Family family) {
    condemn(family);
    sweep();
  }
};

TEST_F(PolicySlip, WhatLooksLikeAReplyToNobodyIsAnAttempt) {
  for (const FamilyCase& each : families()) {
    for (const std::uint8_t flags : {std::uint8_t{kSyn | kAck}, std::uint8_t{kAck}, std::uint8_t{kFin | kAck},
                                     std::uint8_t{kRst}, std::uint8_t{kRst | kAck}, std::uint8_t{0}}) {
      expect_denied(a_, b_, each.family, testkit::tcp(kServer, kListening, flags), fmt::format("TCP flags {}", flags));
      EXPECT_FALSE(arrives(b_, each.remote, testkit::tcp(kServer, kListening, flags))) << int{flags};
    }
    expect_denied(a_, b_, each.family, testkit::udp(53, 53), "UDP from port 53");
    for (const std::uint8_t chunk : {1, 2, 0, 11, 6, 14}) {
      expect_denied(a_, b_, each.family, testkit::sctp(kServer, kListening, chunk),
                    fmt::format("SCTP chunk {}", chunk));
    }
    expect_denied(a_, b_, each.family, echo(each.family, true), "an echo reply");
    EXPECT_TRUE(connections(each.family).empty());
  }
}

TEST_F(PolicySlip, AnErrorMustBeAboutAConnectionOfItsReceiver) {
  for (const FamilyCase& each : families()) {
    const auto error = [&](const IpAddress& source, const IpAddress& destination) {
      const Bytes about = testkit::packet(Ip{source, destination, 63}, testkit::udp(kListening, kServer));
      return each.family == Family::kV4 ? testkit::icmp(3, 3, testkit::error_rest(about))
                                        : testkit::icmp6(1, 4, testkit::error_rest(about));
    };
    EXPECT_FALSE(arrives(b_, each.remote, error(b_.address(each.family), each.remote))) << "nobody began it";
    ASSERT_TRUE(leaves(a_, each, testkit::udp(kListening, kServer)));
    EXPECT_FALSE(arrives(b_, each.remote, error(a_.address(each.family), each.remote))) << "it is another pod's";
  }
}

// The tuple of b's own connection, met by a's SYN in each state that it can be in.
TEST_F(PolicySlip, AnUsedTupleLetsNoAttemptIn) {
  const auto out = [](std::uint8_t flags) { return testkit::tcp(kListening, kServer, flags); };
  const auto in = [](std::uint8_t flags) { return testkit::tcp(kServer, kListening, flags); };
  struct Move {
    bool out;
    std::uint8_t flags;
    const char* state;  // after it
  };
  const Move moves[] = {
      {true, kSyn, "SYN_SENT"},        {false, kSyn | kAck, "SYN_RECV"}, {true, kAck, "ESTABLISHED"},
      {true, kFin | kAck, "FIN_WAIT"}, {false, kAck, "CLOSE_WAIT"},      {false, kFin | kAck, "LAST_ACK"},
      {true, kAck, "TIME_WAIT"},       {true, kSyn, "SYN_SENT, anew"},   {false, kRst | kAck, "CLOSE"}};
  for (const FamilyCase& each : families()) {
    std::size_t done = 0;
    for (const Move& last : moves) {
      // Each state is reached anew, since the attempt may end the connection.
      forget(each.family);
      ++done;
      for (std::size_t i = 0; i < done; ++i) {
        ASSERT_TRUE(moves[i].out ? passes(b_, a_, each.family, out(moves[i].flags))
                                 : passes(a_, b_, each.family, in(moves[i].flags)))
            << moves[i].state;
      }
      expect_denied(a_, b_, each.family, in(kSyn), last.state);
    }
    // Mid-stream, too: nobody has seen how it began.
    forget(each.family);
    ASSERT_TRUE(passes(b_, a_, each.family, out(kAck)));
    expect_denied(a_, b_, each.family, in(kSyn), "UNACKNOWLEDGED");
  }
}

TEST_F(PolicySlip, AnAttemptOnAUsedTuplePassesWhereTheRulesAllowIt) {
  put(kRules, {{6, kListening, kListening}});
  for (const FamilyCase& each : families()) {
    ASSERT_TRUE(passes(b_, a_, each.family, testkit::tcp(kListening, kServer, kSyn)));
    EXPECT_TRUE(passes(a_, b_, each.family, testkit::tcp(kServer, kListening, kSyn))) << "both at once";
    ASSERT_TRUE(passes(b_, a_, each.family, testkit::tcp(kListening + 1, kServer, kSyn)));
    expect_denied(a_, b_, each.family, testkit::tcp(kServer, kListening + 1, kSyn), "another port");
  }
}

TEST_F(PolicySlip, AHalfOpenEntryLetsNoAttemptIn) {
  for (const FamilyCase& each : families()) {
    ASSERT_TRUE(passes(b_, a_, each.family, testkit::sctp(kListening, kServer, 1)));
    expect_denied(a_, b_, each.family, testkit::sctp(kServer, kListening, 1), "INIT");
    EXPECT_TRUE(passes(a_, b_, each.family, testkit::sctp(kServer, kListening, 2))) << "INIT ACK";
    ASSERT_TRUE(passes(b_, a_, each.family, echo(each.family)));
    expect_denied(a_, b_, each.family, echo(each.family), "a query with the identifier of b's own");
    EXPECT_TRUE(passes(a_, b_, each.family, echo(each.family, true)));
    // From elsewhere it is the same.
    ASSERT_TRUE(leaves(b_, each, testkit::tcp(kListening, kServer, kSyn)));
    EXPECT_FALSE(arrives(b_, each.remote, testkit::tcp(kServer, kListening, kSyn)));
    EXPECT_TRUE(arrives(b_, each.remote, testkit::tcp(kServer, kListening, kSyn | kAck)));
    EXPECT_FALSE(arrives(b_, each.remote, testkit::tcp(kServer, kListening, kSyn)));
  }
}

// The other way round: a server that may begin nothing does not begin it on the ends of its client's connection.
TEST_F(PolicySlip, AServerDoesNotSlipPastItsOwnEgress) {
  for (const FamilyCase& each : families()) {
    bind(b_, 0, kRules);
    connect(a_, b_, each.family);
    EXPECT_TRUE(passes(b_, a_, each.family, answer()));
    expect_denied(b_, a_, each.family, testkit::tcp(kServer, kClient, kSyn), "SYN", "policy_egress");
    EXPECT_TRUE(passes(b_, a_, each.family, answer())) << "the connection goes on";
  }
}

// Who was let in once and is no more does not have the connection forgotten, after which the isolated pod's next packet
// would look as if it began another one.
TEST_F(PolicySlip, WhoIsDeniedEndsNoConnection) {
  for (const FamilyCase& each : families()) {
    for (const std::uint8_t last : {kRst, std::uint8_t{kRst | kAck}, std::uint8_t{kFin | kAck}}) {
      forget(each.family);
      bind(b_, 0, 0);
      connect(a_, b_, each.family);
      bind(b_, kRules, 0);
      expect_denied(a_, b_, each.family, testkit::tcp(kClient, kServer, last), "its end");
      age(each.family, 130);
      sweep();
      ASSERT_EQ(connections(each.family).size(), 1U) << "flags " << int{last};
      EXPECT_EQ(connections(each.family)[0].state, CT_TCP_ESTABLISHED);
      expect_denied(b_, a_, each.family, answer(), "what the pod sends again");
      expect_denied(a_, b_, each.family, ask(), "and what it would hear");
      // Let in again, it ends as ever.
      bind(b_, 0, 0);
      EXPECT_TRUE(passes(a_, b_, each.family, testkit::tcp(kClient, kServer, last)));
      EXPECT_NE(connections(each.family)[0].state, CT_TCP_ESTABLISHED);
    }
    // The same by a SYN that would begin anew, on a connection whose begin nobody saw.
    forget(each.family);
    bind(b_, 0, 0);
    ASSERT_TRUE(passes(a_, b_, each.family, ask()));
    bind(b_, kRules, 0);
    expect_denied(a_, b_, each.family, testkit::tcp(kClient, kServer, kSyn), "SYN");
    EXPECT_EQ(connections(each.family).size(), 1U);
    expect_denied(b_, a_, each.family, answer(), "what the pod sends again");
    bind(b_, kRules, 0);
  }
}

// A denied attempt leaves nothing behind by which its answer, or its next packet, would pass.
TEST_F(PolicySlip, ADeniedAttemptLeavesNothing) {
  for (const FamilyCase& each : families()) {
    for (int i = 0; i < 2; ++i) {
      expect_denied(a_, b_, each.family, testkit::tcp(kClient, kServer, kSyn), "SYN");
      expect_denied(a_, b_, each.family, testkit::tcp(kClient, kServer, kAck), "ACK");
      expect_denied(a_, b_, each.family, testkit::udp(kClient, kServer), "UDP");
    }
    EXPECT_TRUE(connections(each.family).empty());
  }
}

TEST_F(PolicySlip, ADenialSaysWhosePolicyItIs) {
  const auto events = DropEvents::open(path_->pods());
  ASSERT_TRUE(events) << events.error().message();
  // What is told of a packet that is dropped for `reason`: those of an earlier test are told of less often.
  const auto told = [&](const std::string& reason, const Transport& transport) {
    EXPECT_TRUE((*events)->read([](const Drop&) {}));
    Drop found;
    EXPECT_TRUE(testkit::eventually([&] {
      EXPECT_FALSE(passes(a_, b_, Family::kV4, transport));
      EXPECT_TRUE((*events)->read([&](const Drop& drop) {
        if (drop.reason == reason) found = drop;
      }));
      return found.reason == reason;
    })) << reason;
    return found;
  };
  const Drop ingress = told("policy_ingress", testkit::udp(kClient, kServer));
  EXPECT_EQ(ingress.ifindex, a_.endpoint.ifindex) << "where it was dropped";
  EXPECT_EQ(ingress.isolated, b_.endpoint.ifindex);
  bind(a_, 0, kRules);
  EXPECT_EQ(told("policy_egress", testkit::udp(kClient, kServer)).isolated, a_.endpoint.ifindex);
  bind(a_, 0, 0);
  bind(b_, 0, 0);
  EXPECT_EQ(told("no_connection", testkit::icmp(0)).isolated, 0U) << "no policy's";
}

}  // namespace
}  // namespace fairlead::datapath
