// SPDX-License-Identifier: Apache-2.0
// Policy on the packet path: what each side of a connection allows, and when it is asked. By BPF_PROG_RUN, for both
// families, as docs/packet-path.md tells under Policy.
#include "test/bpf/policy_path_fixture.h"

namespace fairlead::datapath {
namespace {

struct PortCase {
  Transport transport;
  bool allowed;
};

TEST_F(PolicyPath, PortsAndProtocolsAreAsTheRulesSay) {
  know(b_, kFriend);
  know(a_, kFriend);
  const Transport gre{47, Bytes(8, 0)};
  for (const bool ingress : {false, true}) {
    put(kRules, {{6, 443, 443}},
        {{kFriend, {kHttp, {17, 1000, 1063}, {17, 1064, 1064}, {132, 5000, 5000}, {6, 0, 0}}}});
    isolate(ingress ? b_ : a_, ingress, kRules);
    const std::string reason = ingress ? "policy_ingress" : "policy_egress";
    for (const FamilyCase& each : families()) {
      const std::vector<PortCase> cases{
          {testkit::tcp(kClient, 443), true},
          {testkit::tcp(kClient, 80), true},
          {testkit::tcp(kClient, 79), false},
          {testkit::tcp(kClient, 81), false},
          {testkit::tcp(80, 8080), false},
          {testkit::udp(kClient, 80), false},
          {testkit::udp(kClient, 999), false},
          {testkit::udp(kClient, 1000), true},
          {testkit::udp(kClient, 1063), true},
          {testkit::udp(kClient, 1064), true},
          {testkit::udp(kClient, 1065), false},
          {testkit::sctp(kClient, 5000), true},
          {testkit::sctp(kClient, 443), false},
          {echo(each.family), false},
          {gre, false},
      };
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const std::uint64_t before = count(reason);
        const std::size_t there = connections(each.family).size();
        EXPECT_EQ(passes(a_, b_, each.family, cases[i].transport), cases[i].allowed) << reason << " case " << i;
        EXPECT_EQ(count(reason), before + (cases[i].allowed ? 0 : 1)) << i;
        EXPECT_EQ(connections(each.family).size(), there + (cases[i].allowed ? 1 : 0)) << "a slot for case " << i;
      }
      condemn(each.family);
    }
    // Whatever the protocol: pings, and what has no ports.
    put(kRules, {}, {{kFriend, {kAnything}}});
    isolate(ingress ? b_ : a_, ingress, kRules);
    for (const FamilyCase& each : families()) {
      for (const Transport& transport : {testkit::tcp(kClient, 1), testkit::sctp(1, 1), echo(each.family), gre}) {
        EXPECT_TRUE(passes(a_, b_, each.family, transport)) << static_cast<int>(transport.protocol);
      }
      condemn(each.family);
    }
    sweep();
    bind(a_, 0, 0);
    bind(b_, 0, 0);
  }
}

TEST_F(PolicyPath, EachSideDecidesForItself) {
  know(a_, kFriend);
  know(b_, kFriend);
  put(kRules, {}, {{kFriend, {kHttp}}});
  put(kOthers, {}, {{kNetwork, {kHttp}}});
  for (const FamilyCase& each : families()) {
    const Transport syn = testkit::tcp(kClient, kServer);
    const auto with = [&](RuleSetId egress, RuleSetId ingress) {
      bind(a_, 0, egress);
      bind(b_, ingress, 0);
      condemn(each.family);
      sweep();
      return passes(a_, b_, each.family, syn);
    };
    EXPECT_TRUE(with(kRules, kRules));
    std::uint64_t before = count("policy_ingress");
    EXPECT_FALSE(with(kRules, kOthers));
    EXPECT_EQ(count("policy_ingress"), before + 1);
    before = count("policy_egress");
    EXPECT_FALSE(with(kOthers, kRules));
    EXPECT_EQ(count("policy_egress"), before + 1);
    // The other direction of each is nobody's business here.
    bind(a_, kOthers, 0);
    bind(b_, 0, kOthers);
    EXPECT_TRUE(passes(a_, b_, each.family, syn));
    EXPECT_FALSE(passes(b_, a_, each.family, testkit::tcp(1, kServer)));
  }
}

TEST_F(PolicyPath, AnExactAddressWinsOverCidrsAndALongerCidrOverAShorterOne) {
  put(kRules, {}, {{kNetwork, {kHttp}}});
  const Transport syn = testkit::tcp(kClient, kServer);
  for (const bool ingress : {false, true}) {
    isolate(a_, ingress, kRules);
    const auto passes_now = [&](const FamilyCase& each) {
      condemn(each.family);
      sweep();
      return ingress ? arrives(a_, each.remote, syn) : leaves(a_, each, syn);
    };
    for (const FamilyCase& each : families()) {
      const bool v4 = each.family == Family::kV4;
      EXPECT_FALSE(passes_now(each)) << "an unknown address";
      know(v4 ? "192.0.0.0/16" : "2001:db8::/32", kNetwork);
      EXPECT_TRUE(passes_now(each));
      know(v4 ? "192.0.2.0/29" : "2001:db8::/125", kFriend);
      EXPECT_FALSE(passes_now(each)) << "an exception";
      know(Cidr::host(each.remote).str(), kNetwork);
      EXPECT_TRUE(passes_now(each)) << "a single address as a CIDR";
      ASSERT_TRUE(maps_->set_identity(each.remote, kFriend));
      EXPECT_FALSE(passes_now(each)) << "an exact address";
      ASSERT_TRUE(maps_->erase_identity(each.remote));
      for (const char* cidr : {"192.0.0.0/16", "2001:db8::/32", "192.0.2.0/29", "2001:db8::/125"}) {
        ASSERT_TRUE(maps_->erase_identity(Cidr::parse(cidr).value()));
      }
      ASSERT_TRUE(maps_->erase_identity(Cidr::host(each.remote)));
      know(v4 ? "0.0.0.0/0" : "::/0", kNetwork);
      EXPECT_TRUE(passes_now(each)) << "everything";
      ASSERT_TRUE(maps_->erase_identity(Cidr::parse(v4 ? "0.0.0.0/0" : "::/0").value()));
    }
  }
}

TEST_F(PolicyPath, ANumberThatIsNoRuleSetDeniesEverything) {
  know(b_, kFriend);
  for (const RuleSetId rules : {kRules, RuleSetId{POL_MAX_RULES - 1}, RuleSetId{POL_MAX_RULES}, RuleSetId{~0U}}) {
    for (const FamilyCase& each : families()) {
      bind(a_, 0, rules);
      EXPECT_FALSE(passes(a_, b_, each.family, testkit::tcp(kClient, kServer))) << rules;
      bind(a_, rules, 0);
      EXPECT_FALSE(passes(b_, a_, each.family, testkit::tcp(kClient, kServer))) << rules;
    }
  }
  // Nor does one that is not put yet, or no more, allow its peers.
  ASSERT_TRUE(maps_->allow(kRules, kFriend, {kAnything}));
  bind(a_, 0, kRules);
  EXPECT_FALSE(passes(a_, b_, Family::kV4, testkit::udp(1, 2)));
  ASSERT_TRUE(maps_->put_rules(kRules, {}));
  EXPECT_TRUE(passes(a_, b_, Family::kV4, testkit::udp(1, 2)));
  ASSERT_TRUE(maps_->erase_rules(kRules));
  EXPECT_FALSE(passes(a_, b_, Family::kV4, testkit::udp(1, 3)));
}

TEST_F(PolicyPath, AnOpenConnectionIsJudgedAgainWhenItsGenerationChanges) {
  know(a_, kFriend);
  know(b_, kFriend);
  for (const bool ingress : {false, true}) {
    const Pod& isolated = ingress ? b_ : a_;
    const std::string reason = ingress ? "policy_ingress" : "policy_egress";
    for (const FamilyCase& each : families()) {
      put(kRules, {}, {{kFriend, {kHttp}}});
      isolate(isolated, ingress, kRules);
      connect(a_, b_, each.family);
      // The verdict is remembered: as long as the generation is the same, nobody looks at the rules.
      ASSERT_TRUE(maps_->forbid(kRules, kFriend));
      EXPECT_TRUE(passes(a_, b_, each.family, ask()));
      EXPECT_TRUE(passes(b_, a_, each.family, answer()));
      isolate(isolated, ingress, kRules);
      const std::uint64_t before = count(reason);
      EXPECT_FALSE(passes(a_, b_, each.family, ask()));
      EXPECT_FALSE(passes(b_, a_, each.family, answer())) << "answers of a connection that is denied";
      EXPECT_EQ(count(reason), before + 2);
      EXPECT_EQ(connections(each.family).size(), 1U) << "it is still there";
      put(kRules, {}, {{kFriend, {kHttp}}});
      EXPECT_TRUE(passes(b_, a_, each.family, answer())) << "a denial is not remembered";
      EXPECT_TRUE(passes(a_, b_, each.family, ask()));
      // Judged as it began: the answers' own port is in no rule.
      isolate(isolated, ingress, kRules);
      EXPECT_TRUE(passes(b_, a_, each.family, answer()));
      EXPECT_TRUE(passes(a_, b_, each.family, ask()));
      // One more rule set than before, and none at all.
      isolate(isolated, ingress, kOthers);
      EXPECT_FALSE(passes(a_, b_, each.family, ask()));
      bind(isolated, 0, 0);
      EXPECT_TRUE(passes(a_, b_, each.family, ask()));
      condemn(each.family);
      sweep();
    }
  }
}

TEST_F(PolicyPath, AConnectionOfAnUnisolatedPodIsJudgedOnceItIsIsolated) {
  for (const FamilyCase& each : families()) {
    connect(a_, b_, each.family);
    bind(b_, kRules, 0);
    EXPECT_FALSE(passes(a_, b_, each.family, ask()));
    EXPECT_FALSE(passes(b_, a_, each.family, answer()));
    bind(b_, 0, 0);
    bind(a_, 0, kRules);
    EXPECT_FALSE(passes(b_, a_, each.family, answer()));
    bind(a_, 0, 0);
    EXPECT_TRUE(passes(b_, a_, each.family, answer()));
  }
}

TEST_F(PolicyPath, WhatComesFromElsewhereIsJudgedWhereThePodReceivesIt) {
  for (const FamilyCase& each : families()) {
    put(kRules, {kHttp});
    bind(a_, kRules, 0);
    EXPECT_TRUE(arrives(a_, each.remote, testkit::tcp(kClient, kServer)));
    EXPECT_TRUE(leaves(a_, each, testkit::tcp(kServer, kClient, kSyn | kAck)));
    EXPECT_FALSE(arrives(a_, each.remote, testkit::tcp(kClient, 22)));
    put(kRules, {});
    bind(a_, kRules, 0);
    EXPECT_FALSE(arrives(a_, each.remote, testkit::tcp(kClient, kServer, kAck)));
    EXPECT_FALSE(leaves(a_, each, answer()));
    // What the pod itself begins is another matter, and so are the answers to it.
    EXPECT_TRUE(leaves(a_, each, testkit::udp(5000, 53)));
    EXPECT_TRUE(arrives(a_, each.remote, testkit::udp(53, 5000)));
    bind(a_, kRules, kRules);
    EXPECT_FALSE(arrives(a_, each.remote, testkit::udp(53, 5000)));
  }
}

TEST_F(PolicyPath, TheNodeItselfReachesItsPodsWhateverTheRulesSay) {
  put(kRules, {});
  for (const FamilyCase& each : families()) {
    const IpAddress node = each.remote;
    ASSERT_TRUE(maps_->set_identity(node, kOwnNode));
    bind(a_, kRules, kRules);
    EXPECT_TRUE(arrives(a_, node, testkit::tcp(kClient, kServer), kNode));
    EXPECT_TRUE(leaves(a_, each, testkit::tcp(kServer, kClient, kSyn | kAck)));
    bind(a_, kRules, kRules);
    EXPECT_TRUE(leaves(a_, each, answer())) << "also when it is judged again";
    EXPECT_TRUE(arrives(a_, node, ask(), kNode));
    EXPECT_FALSE(arrives(a_, node, ask())) << "the node's address, from elsewhere";
    EXPECT_FALSE(arrives(a_, node, testkit::tcp(kClient + 1, kServer)));
    EXPECT_TRUE(arrives(a_, node, echo(each.family), kNode));
    EXPECT_TRUE(leaves(a_, each, echo(each.family, true)));
    // And the pod reaches the node.
    EXPECT_TRUE(leaves(a_, each, testkit::udp(kClient, 53)));
    EXPECT_TRUE(arrives(a_, node, testkit::udp(53, kClient), kNode));
    // An address of the node's that a CIDR covers is what the CIDR is, where it is no more than an address.
    know(Cidr::host(node).str(), kNetwork);
    put(kRules, {}, {{kNetwork, {kHttp}}});
    EXPECT_TRUE(arrives(a_, node, testkit::tcp(kClient + 1, kServer)));
    put(kRules, {});
    ASSERT_TRUE(maps_->forbid(kRules, kNetwork));
  }
}

TEST_F(PolicyPath, AServicesBackendIsWhatIsJudged) {
  know(b_, kFriend);
  constexpr std::uint16_t kTarget = 8080;
  for (const FamilyCase& each : families()) {
    serve(each.service, kServer, Protocol::kTcp, {{b_.address(each.family), kTarget}});
    const auto through = [&](std::uint16_t client) {
      return from_pod(a_, sent(a_, each.service, testkit::tcp(client, kServer)));
    };
    put(kRules, {}, {{kFriend, {{6, kTarget, kTarget}}}});
    bind(a_, 0, kRules);
    bind(b_, kOthers, 0);
    put(kOthers, {{6, kTarget, kTarget}});
    EXPECT_EQ(through(1).action, TC_ACT_REDIRECT);
    EXPECT_TRUE(passes(b_, a_, each.family, testkit::tcp(kTarget, 1, kSyn | kAck)));
    // The Service's own port says nothing, and a denial is not answered in its place.
    put(kRules, {}, {{kFriend, {{6, kServer, kServer}}}});
    const Bytes packet = sent(a_, each.service, testkit::tcp(2, kServer));
    const Verdict verdict = from_pod(a_, packet);
    EXPECT_EQ(verdict.action, TC_ACT_SHOT);
    EXPECT_EQ(verdict.packet, packet);
    bind(a_, 0, 0);
    EXPECT_EQ(through(3).action, TC_ACT_REDIRECT);
    put(kOthers, {{6, kServer, kServer}});
    EXPECT_EQ(through(4).action, TC_ACT_SHOT);
    // Judged again, a connection through a Service is still its backend.
    bind(a_, 0, kRules);
    bind(b_, 0, 0);
    EXPECT_EQ(from_pod(a_, sent(a_, each.service, testkit::tcp(1, kServer, kAck))).action, TC_ACT_SHOT);
    put(kRules, {}, {{kFriend, {{6, kTarget, kTarget}}}});
    EXPECT_EQ(from_pod(a_, sent(a_, each.service, testkit::tcp(1, kServer, kAck))).action, TC_ACT_REDIRECT);
    EXPECT_TRUE(passes(b_, a_, each.family, testkit::tcp(kTarget, 1, kAck)));
  }
}

TEST_F(PolicyPath, NobodyIsKeptFromHimself) {
  for (const FamilyCase& each : families()) {
    serve(each.service, kServer, Protocol::kTcp, {{a_.address(each.family), kServer}});
    put(kRules, {});
    bind(a_, kRules, kRules);
    const auto send = [&](std::uint16_t from, std::uint16_t to, std::uint8_t flags) {
      return from_pod(a_, sent(a_, each.service, testkit::tcp(from, to, flags))).action;
    };
    EXPECT_EQ(send(kClient, kServer, kSyn), TC_ACT_REDIRECT);
    EXPECT_EQ(send(kServer, kClient, kSyn | kAck), TC_ACT_REDIRECT);
    bind(a_, kRules, kRules);
    EXPECT_EQ(send(kClient, kServer, kAck), TC_ACT_REDIRECT);
    EXPECT_EQ(send(kServer, kClient, kAck), TC_ACT_REDIRECT);
  }
}

TEST_F(PolicyPath, FragmentsGoWithTheirConnection) {
  know(b_, kFriend);
  for (const FamilyCase& each : families()) {
    put(kRules, {}, {{kFriend, {{17, kServer, kServer}}}});
    bind(a_, 0, kRules);
    const auto pieces = [&](std::uint16_t port, std::uint32_t id) {
      return testkit::fragments(a_.to_host(), Ip{a_.address(each.family), b_.address(each.family), 64},
                                testkit::udp(kClient, port, std::string(100, 'x')), 64, id);
    };
    for (const Bytes& piece : pieces(kServer, 1)) EXPECT_EQ(from_pod(a_, piece).action, TC_ACT_REDIRECT);
    for (const Bytes& piece : pieces(kServer + 1, 2)) EXPECT_EQ(from_pod(a_, piece).action, TC_ACT_SHOT);
    bind(a_, 0, kOthers);
    for (const Bytes& piece : pieces(kServer, 3)) EXPECT_EQ(from_pod(a_, piece).action, TC_ACT_SHOT);
  }
}

TEST_F(PolicyPath, ErrorsAboutAConnectionPassAndOtherIcmpDoesNot) {
  for (const FamilyCase& each : families()) {
    put(kRules, {{17, kServer, kServer}});
    bind(a_, kOthers, kRules);
    ASSERT_TRUE(leaves(a_, each, testkit::udp(kClient, kServer)));
    const Bytes about = testkit::packet(Ip{a_.address(each.family), each.remote, 63}, testkit::udp(kClient, kServer));
    const Bytes rest = testkit::error_rest(about);
    const bool v4 = each.family == Family::kV4;
    EXPECT_TRUE(arrives(a_, each.remote, v4 ? testkit::icmp(11, 0, rest) : testkit::icmp6(3, 0, rest)));
    const Transport odd = v4 ? testkit::icmp(40) : testkit::icmp6(200);  // neither a query nor an error
    EXPECT_FALSE(leaves(a_, each, odd));
    EXPECT_FALSE(arrives(a_, each.remote, odd));
    EXPECT_TRUE(arrives(a_, each.remote, odd, kNode));
    EXPECT_FALSE(passes(b_, a_, each.family, odd));
    put(kRules, {kAnything});
    put(kOthers, {kAnything});
    EXPECT_TRUE(leaves(a_, each, odd));
    EXPECT_TRUE(arrives(a_, each.remote, odd));
    EXPECT_TRUE(passes(b_, a_, each.family, odd));
    ASSERT_TRUE(maps_->erase_rules(kOthers));
  }
}

TEST_F(PolicyPath, MidStreamPacketsPassOnlyWhereAConnectionCouldBegin) {
  put(kRules, {kHttp});
  for (const FamilyCase& each : families()) {
    bind(a_, kRules, kRules);
    for (const std::uint8_t flags : {std::uint8_t{kAck}, std::uint8_t{kFin | kAck}, std::uint8_t{kRst}}) {
      EXPECT_FALSE(leaves(a_, each, testkit::tcp(kClient, 22, flags))) << int{flags};
      EXPECT_FALSE(arrives(a_, each.remote, testkit::tcp(kClient, 22, flags))) << int{flags};
      EXPECT_TRUE(connections(each.family).empty());
      EXPECT_TRUE(leaves(a_, each, testkit::tcp(kClient, kServer, flags))) << int{flags};
      EXPECT_TRUE(arrives(a_, each.remote, testkit::tcp(kClient + 1, kServer, flags))) << int{flags};
      condemn(each.family);
      sweep();
    }
  }
}

TEST_F(PolicyPath, RangesOfALiveRuleSetChangeAtOnce) {
  bind(a_, 0, kRules);
  // A reader that saw half of a change would miss port 80, which is in every one.
  for (std::uint16_t more = 0; more < 2 * POL_RANGES; ++more) {
    std::vector<PortRange> ports;
    for (std::uint16_t i = 0; i < more % POL_RANGES; ++i) {
      ports.push_back({6, static_cast<std::uint16_t>(1000 + 2 * i), static_cast<std::uint16_t>(1000 + 2 * i)});
    }
    ports.push_back(kHttp);
    ASSERT_TRUE(maps_->put_rules(kRules, ports));
    EXPECT_EQ(maps_->read().value().rules.at(kRules).any_peer, ports);
    EXPECT_TRUE(leaves(a_, families()[0], testkit::tcp(static_cast<std::uint16_t>(2000 + more), kServer)));
    EXPECT_EQ(leaves(a_, families()[0], testkit::tcp(static_cast<std::uint16_t>(2000 + more), 1000)),
              more % POL_RANGES != 0);
  }
}

TEST_F(PolicyPath, TheMapsTellWhatTheyHold) {
  PolicyContents wanted;
  wanted.addresses = {{ip("10.1.0.1"), kFriend}, {ip("fd00::1"), kOwnNode}};
  wanted.cidrs = {{Cidr::parse("10.0.0.0/8").value(), 5}, {Cidr::parse("::/0").value(), 6}};
  wanted.rules[1] = {{kHttp, {132, 1, 2}}, {}};
  wanted.rules[POL_MAX_RULES - 1] = {{}, {{kFriend, {kAnything}}, {kWorld, {}}}};
  for (const auto& [address, identity] : wanted.addresses) ASSERT_TRUE(maps_->set_identity(address, identity));
  for (const auto& [cidr, identity] : wanted.cidrs) ASSERT_TRUE(maps_->set_identity(cidr, identity));
  for (const auto& [id, rules] : wanted.rules) put(id, rules.any_peer, rules.peers);
  const auto expect_same = [&](const PolicyContents& found) {
    EXPECT_EQ(found.addresses, wanted.addresses);
    EXPECT_EQ(found.cidrs, wanted.cidrs);
    EXPECT_TRUE(found.rules == wanted.rules);
  };
  expect_same(maps_->read().value());
  // Another agent finds the same, but for peers of a rule set that was never finished.
  ASSERT_TRUE(maps_->allow(kRules, kFriend, {kHttp}));
  auto again = BpfPolicyMaps::open(path_->pods());
  ASSERT_TRUE(again) << again.error().message();
  expect_same((*again)->read().value());
  ASSERT_TRUE((*again)->erase_rules(POL_MAX_RULES - 1));
  ASSERT_TRUE((*again)->erase_rules(POL_MAX_RULES - 1)) << "erasing what is not there succeeds";
  EXPECT_EQ((*again)->read().value().rules.size(), 1U);
}

TEST_F(PolicyPath, WhatDoesNotFitIsRefusedAndChangesNothing) {
  const std::vector<PortRange> many(POL_RANGES + 1, kHttp);
  put(kRules, {kHttp});
  EXPECT_EQ(maps_->put_rules(kRules, many).error().code, Code::kExhausted);
  EXPECT_EQ(maps_->allow(kRules, kFriend, many).error().code, Code::kExhausted);
  EXPECT_EQ(maps_->read().value().rules.at(kRules).any_peer, std::vector{kHttp});
  EXPECT_EQ(maps_->put_rules(0, {}).error().code, Code::kInvalid);
  EXPECT_EQ(maps_->put_rules(POL_MAX_RULES, {}).error().code, Code::kInvalid);

  const auto small = testkit::DataPath::open(
      "small",
      {.connections = 64, .translated = 64, .services = {}, .policy = {.addresses = 2, .cidrs = 2, .peers = 2}});
  ASSERT_TRUE(small) << small.error().message();
  const auto maps = BpfPolicyMaps::open((*small)->pods()).value();
  for (const char* prefix : {"10.0.0.", "fd00::"}) {
    for (int i = 1; i <= 3; ++i) {
      const IpAddress address = ip(prefix + std::to_string(i));
      const auto exact = maps->set_identity(address, 9);
      const auto cidr = maps->set_identity(Cidr::host(address), 9);
      ASSERT_EQ(exact.has_value(), i < 3);
      ASSERT_EQ(cidr.has_value(), i < 3);
      if (i < 3) continue;
      EXPECT_EQ(exact.error().code, Code::kExhausted);
      EXPECT_NE(exact.error().what.find("pol_id"), std::string::npos) << exact.error().what;
      EXPECT_EQ(cidr.error().code, Code::kExhausted);
      EXPECT_NE(cidr.error().what.find("pol_cidr"), std::string::npos) << cidr.error().what;
    }
  }
  EXPECT_TRUE(maps->allow(1, 1, {}));
  EXPECT_TRUE(maps->allow(1, 2, {}));
  EXPECT_EQ(maps->allow(1, 3, {}).error().code, Code::kExhausted);
  EXPECT_TRUE(maps->allow(1, 2, {kHttp})) << "what is there may change";
}

TEST_F(PolicyPath, BindingsAndGenerationsOutliveTheAgent) {
  bind(a_, kRules, kOthers);
  const std::uint32_t last = path_->pods().new_generation().value();
  auto again = BpfPodPrograms::load(path_->root(), {.connections = 1024, .translated = 1024});
  ASSERT_TRUE(again) << again.error().message();
  const auto endpoints = (*again)->endpoints();
  const auto found = std::ranges::find(endpoints, a_.endpoint.ifindex, &PodEndpoint::ifindex);
  ASSERT_NE(found, endpoints.end());
  EXPECT_EQ(found->ingress.rules, kRules);
  EXPECT_EQ(found->egress.rules, kOthers);
  EXPECT_GT((*again)->new_generation().value(), last);
}

}  // namespace
}  // namespace fairlead::datapath
