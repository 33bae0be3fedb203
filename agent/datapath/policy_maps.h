// SPDX-License-Identifier: Apache-2.0
// PolicyMaps: who may speak with whom, as the BPF programs read it.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"

namespace fairlead::datapath {

// What an address is, to rule sets: a number of this node's own. Equal numbers are judged alike.
using Identity = std::uint32_t;
// Of an address that no entry and no CIDR names.
inline constexpr Identity kWorld = 0;
// Of this node's own addresses: what a pod sends to them is always allowed.
inline constexpr Identity kOwnNode = 1;

// Rules of one direction of one pod or of many: everything that is not allowed is denied. Number 0 is no rule set:
// nothing is denied, and it takes no entries.
using RuleSetId = std::uint32_t;

// Ports of a protocol (IPPROTO_*; 0: of any, also of those without ports).
struct PortRange {
  std::uint8_t protocol = 0;
  std::uint16_t first = 0;
  std::uint16_t last = 65535;
  auto operator<=>(const PortRange&) const = default;
};

struct RuleSet {
  std::vector<PortRange> any_peer;                   // allowed with whomever
  std::map<Identity, std::vector<PortRange>> peers;  // allowed with these, besides
  auto operator<=>(const RuleSet&) const = default;
};

// Ports that are allowed with a peer.
using PeerPorts = std::pair<Identity, std::vector<PortRange>>;

// What the maps hold: for a restart, for an audit, and for whoever judges by the maps themselves.
struct PolicyContents {
  std::map<IpAddress, Identity> addresses;
  std::map<Cidr, Identity> cidrs;
  std::map<RuleSetId, RuleSet> rules;
};

// Thread: the policy domain's loop. Implemented over pinned maps by BpfPolicyMaps; a fake serves unit tests. Each call
// is one change that a packet sees whole or not at all. kExhausted names the map that is full; nothing has changed
// then. Which rule sets hold for a pod is said in its endpoint's record, not here (PodEndpoint, model::PodPolicy).
class PolicyMaps {
 public:
  virtual ~PolicyMaps() = default;

  // An exact address wins over every CIDR, a longer CIDR over a shorter one. Erasing what is not there succeeds.
  virtual Result<> set_identity(const IpAddress& address, Identity identity) = 0;
  virtual Result<> erase_identity(const IpAddress& address) = 0;
  virtual Result<> set_identity(const Cidr& cidr, Identity identity) = 0;
  virtual Result<> erase_identity(const Cidr& cidr) = 0;

  // Makes rule set `id` (not 0) hold `any_peer`, beside the peers that it has. kExhausted also for more ranges than an
  // entry has room for, here and below: the caller joins what touches, and tells of what still does not fit.
  virtual Result<> put_rules(RuleSetId id, const std::vector<PortRange>& any_peer) = 0;
  virtual Result<> allow(RuleSetId id, Identity peer, const std::vector<PortRange>& ports) = 0;
  // Many of them, each a change of its own, up to the first that fails; how many were written. Why that one failed,
  // allow() tells.
  virtual std::size_t allow_first(RuleSetId id, const std::vector<PeerPorts>& peers) = 0;
  virtual Result<> forbid(RuleSetId id, Identity peer) = 0;
  // Peers included. A pod that still points there is denied everything.
  virtual Result<> erase_rules(RuleSetId id) = 0;

  virtual Result<PolicyContents> read() const = 0;
};

}  // namespace fairlead::datapath
