// SPDX-License-Identifier: Apache-2.0
// Two pods, rules in the maps, and packets between the two, beyond the node and from there: what the tests of policy on
// the packet path share.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/datapath/bpf_policy_maps.h"
#include "bpf/abi/policy.h"
#include "test/bpf/packet_path_fixture.h"

namespace fairlead::datapath {

inline constexpr std::uint16_t kClient = 40'000;
inline constexpr std::uint16_t kServer = 80;
inline constexpr RuleSetId kRules = 7;
inline constexpr RuleSetId kOthers = 8;
inline constexpr Identity kFriend = 20;
inline constexpr Identity kNetwork = 21;
inline constexpr std::uint32_t kUplink = 99;  // where what comes from elsewhere came in

inline constexpr PortRange kHttp{6, kServer, kServer};
inline constexpr PortRange kAnything{};

class PolicyPath : public PacketPath {
 protected:
  static void SetUpTestSuite() {
    PacketPath::SetUpTestSuite();
    maps_ = BpfPolicyMaps::open(path_->pods()).value();
  }
  static void TearDownTestSuite() {
    maps_.reset();
    PacketPath::TearDownTestSuite();
  }
  void SetUp() override {
    PacketPath::SetUp();
    for (const Pod* pod : {&a_, &b_}) bind(*pod, 0, 0);
    const PolicyContents left = maps_->read().value();
    for (const auto& [id, rules] : left.rules) ASSERT_TRUE(maps_->erase_rules(id));
    for (const auto& [address, identity] : left.addresses) ASSERT_TRUE(maps_->erase_identity(address));
    for (const auto& [cidr, identity] : left.cidrs) ASSERT_TRUE(maps_->erase_identity(cidr));
  }

  // As the network domain does for a changed row.
  static void bind(const Pod& pod, RuleSetId ingress, RuleSetId egress) {
    PodEndpoint endpoint = pod.endpoint;
    endpoint.ingress = {ingress, path_->pods().new_generation().value()};
    endpoint.egress = {egress, path_->pods().new_generation().value()};
    ASSERT_TRUE(path_->pods().upsert(endpoint));
  }
  static void isolate(const Pod& pod, bool ingress, RuleSetId rules) {
    ingress ? bind(pod, rules, 0) : bind(pod, 0, rules);
  }
  static void put(RuleSetId id, const std::vector<PortRange>& any_peer,
                  const std::map<Identity, std::vector<PortRange>>& peers = {}) {
    for (const auto& [identity, ports] : peers) ASSERT_TRUE(maps_->allow(id, identity, ports));
    ASSERT_TRUE(maps_->put_rules(id, any_peer));
  }
  static void know(const Pod& pod, Identity identity) {
    for (const IpAddress& address : pod.endpoint.addresses) ASSERT_TRUE(maps_->set_identity(address, identity));
  }
  static void know(const std::string& cidr, Identity identity) {
    ASSERT_TRUE(maps_->set_identity(Cidr::parse(cidr).value(), identity));
  }

  // From pod to pod …
  static bool passes(const Pod& from, const Pod& to, Family family, const Transport& transport) {
    return from_pod(from, sent(from, to.address(family), transport)).action == TC_ACT_REDIRECT;
  }
  // … to somewhere beyond the node, and from there.
  static bool leaves(const Pod& from, const FamilyCase& each, const Transport& transport) {
    return from_pod(from, sent(from, each.remote, transport)).action == TC_ACT_OK;
  }
  static bool arrives(const Pod& to, const IpAddress& from, const Transport& transport, std::uint32_t by = kUplink) {
    const testkit::Place place{.ifindex = to.endpoint.ifindex, .from = by};
    const Bytes packet = from_stack(to, from, to.address(from.family()), transport);
    return path_->run("host_to_pod", place, packet).value().action == TC_ACT_OK;
  }
  static constexpr std::uint32_t kNode = 0;

  // A connection that every packet of passes, up to ESTABLISHED.
  static void connect(const Pod& from, const Pod& to, Family family) {
    ASSERT_TRUE(passes(from, to, family, testkit::tcp(kClient, kServer, kSyn)));
    ASSERT_TRUE(passes(to, from, family, testkit::tcp(kServer, kClient, kSyn | kAck)));
    ASSERT_TRUE(passes(from, to, family, testkit::tcp(kClient, kServer, kAck)));
  }
  static Transport ask() { return testkit::tcp(kClient, kServer, kAck, "question"); }
  static Transport answer() { return testkit::tcp(kServer, kClient, kAck, "answer"); }
  static Transport echo(Family family, bool reply = false) {
    return family == Family::kV4 ? testkit::icmp(reply ? 0 : 8) : testkit::icmp6(reply ? 129 : 128);
  }

  static inline std::unique_ptr<BpfPolicyMaps> maps_;
};

}  // namespace fairlead::datapath
