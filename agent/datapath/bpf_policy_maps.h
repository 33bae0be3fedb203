// SPDX-License-Identifier: Apache-2.0
// BpfPolicyMaps: PolicyMaps over the pinned maps of the pod programs.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "agent/datapath/policy_maps.h"

namespace fairlead::datapath {

class BpfPodPrograms;

// Owner: main; thread: the policy domain's loop. Cost: an address or a CIDR is a system call of 1–3 µs, so is a
// peer, many peers at once are one; a rule set's ranges for any peer are memory; erase_rules one call a peer. Remembers
// which peers a rule set has (64 bytes each), nothing else. What is found in the maps at the start stays until it is
// erased.
class BpfPolicyMaps final : public PolicyMaps {
 public:
  // Over the maps of `programs`, which live longer.
  static Result<std::unique_ptr<BpfPolicyMaps>> open(const BpfPodPrograms& programs);
  ~BpfPolicyMaps() override;

  Result<> set_identity(const IpAddress& address, Identity identity) override;
  Result<> erase_identity(const IpAddress& address) override;
  Result<> set_identity(const Cidr& cidr, Identity identity) override;
  Result<> erase_identity(const Cidr& cidr) override;
  Result<> put_rules(RuleSetId id, const std::vector<PortRange>& any_peer) override;
  Result<> allow(RuleSetId id, Identity peer, const std::vector<PortRange>& ports) override;
  std::size_t allow_first(RuleSetId id, const std::vector<PeerPorts>& peers) override;
  Result<> forbid(RuleSetId id, Identity peer) override;
  Result<> erase_rules(RuleSetId id) override;
  Result<PolicyContents> read() const override;

 private:
  struct Maps;
  explicit BpfPolicyMaps(std::unique_ptr<Maps> maps);
  // Fails where `id` is no element of the map.
  Result<> check(RuleSetId id) const;

  std::unique_ptr<Maps> maps_;
  std::map<RuleSetId, std::set<Identity>> peers_;
};

}  // namespace fairlead::datapath
