// SPDX-License-Identifier: Apache-2.0
#include "test/model/verdict.h"

#include <algorithm>
#include <optional>

namespace fairlead::model {
namespace {

// Its exact address's, else that of the longest CIDR that holds it. For ingress the node's own says nothing.
datapath::Identity identity_of(const datapath::PolicyContents& maps, const IpAddress& peer, Side side) {
  if (const auto exact = maps.addresses.find(peer); exact != maps.addresses.end()) {
    if (exact->second != datapath::kOwnNode || side == Side::kEgress) return exact->second;
  }
  std::optional<unsigned> longest;
  datapath::Identity identity = datapath::kWorld;
  for (const auto& [cidr, of] : maps.cidrs) {
    if (cidr.base().family() != peer.family() || !cidr.contains(peer)) continue;
    if (longest && cidr.prefix() < *longest) continue;
    longest = cidr.prefix();
    identity = of;
  }
  return identity;
}

bool holds(const std::vector<datapath::PortRange>& ranges, std::uint8_t protocol, std::uint16_t port) {
  return std::ranges::any_of(ranges, [&](const datapath::PortRange& range) {
    return range.protocol == 0 || (range.protocol == protocol && range.first <= port && port <= range.last);
  });
}

}  // namespace

bool allows(const datapath::PolicyContents& maps, datapath::RuleSetId rules, Side side, const IpAddress& peer,
            std::uint8_t protocol, std::uint16_t port) {
  const auto set = maps.rules.find(rules);
  if (set == maps.rules.end()) return false;
  const datapath::Identity identity = identity_of(maps, peer, side);
  if (side == Side::kEgress && identity == datapath::kOwnNode) return true;
  const auto with = set->second.peers.find(identity);
  return holds(set->second.any_peer, protocol, port) ||
         (with != set->second.peers.end() && holds(with->second, protocol, port));
}

}  // namespace fairlead::model
