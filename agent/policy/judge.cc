// SPDX-License-Identifier: Apache-2.0
#include "agent/policy/judge.h"

#include "agent/policy/ports.h"

namespace fairlead::policy {

datapath::Identity identity_of(const datapath::PolicyContents& maps, const IpAddress& address) {
  if (const auto exact = maps.addresses.find(address); exact != maps.addresses.end()) return exact->second;
  datapath::Identity found = datapath::kWorld;
  unsigned longest = 0;
  for (const auto& [cidr, identity] : maps.cidrs) {
    if (!cidr.contains(address) || cidr.prefix() < longest) continue;
    longest = cidr.prefix();
    found = identity;
  }
  return found;
}

bool allows(const datapath::PolicyContents& maps, datapath::RuleSetId rules, datapath::Identity peer,
            std::uint8_t protocol, std::uint16_t port) {
  if (rules == 0 || peer == datapath::kOwnNode) return true;
  const auto set = maps.rules.find(rules);
  if (set == maps.rules.end()) return false;
  if (contains(set->second.any_peer, protocol, port)) return true;
  const auto ports = set->second.peers.find(peer);
  return ports != set->second.peers.end() && contains(ports->second, protocol, port);
}

}  // namespace fairlead::policy
