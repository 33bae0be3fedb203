// SPDX-License-Identifier: Apache-2.0
// Programmer: brings the policy maps to what is desired, in an order in which no packet is allowed that neither the old
// nor the new policies allow.
#pragma once

#include <map>
#include <set>
#include <utility>

#include "agent/base/clock.h"
#include "agent/datapath/policy_maps.h"
#include "agent/policy/desired.h"

namespace fairlead::policy {

// Owner: the policy domain. Thread: its loop's. Remembers what the maps hold, so that what is right is not written.
//
// An identity's ports are in every rule set in use before an address gets it; a rule set is whole before a pod is bound
// to it; what is used no more is erased a grace time later. Where a map is full the old is left in force.
class Programmer {
 public:
  Programmer(datapath::PolicyMaps& maps, Desired& desired) : maps_(maps), desired_(desired) {}

  // The maps hold this.
  void adopt(datapath::PolicyContents contents) { there_ = std::move(contents); }
  const datapath::PolicyContents& there() const { return there_; }

  Result<> sync_address(const IpAddress& address);
  Result<> sync_cidrs();
  // Peers of a set that is in the maps already.
  Result<> sync_rules(datapath::RuleSetId number);
  // All of a set, so that a pod can be bound to it.
  Result<> publish(datapath::RuleSetId number);

  // How many pods' sides a set is in force for.
  void bind(datapath::RuleSetId number);
  void unbind(datapath::RuleSetId number);
  // Whether something that `before` allows is denied by `after`.
  bool is_stricter(datapath::RuleSetId before, datapath::RuleSetId after) const;
  // Sets that allow less than they did, of some peer, since the last call.
  std::set<datapath::RuleSetId> take_stricter() {
    compared_.clear();
    return std::exchange(stricter_, {});
  }

  // Erases what has been out of use for `grace`; true: something is still to come. `keep_unknown`: not the rule sets of
  // an earlier agent, since some pod may still be bound to them.
  Result<bool> sweep(TimePoint now, Duration grace, bool keep_unknown);

 private:
  void allow_together(RuleSetEntry& set);
  // After the peer's ports were changed from `before`.
  void note(const RuleSetEntry& set, datapath::Identity peer, const Ranges& before);
  Result<> sync_peer(RuleSetEntry& set, datapath::Identity peer);
  Result<> ready(datapath::Identity identity) const;
  void compare(datapath::Identity before, datapath::Identity after);
  Result<> sweep_rule_sets(TimePoint now, Duration grace, bool keep_unknown);
  void sweep_identities(TimePoint now, Duration grace);

  datapath::PolicyMaps& maps_;
  Desired& desired_;
  datapath::PolicyContents there_;
  bool cidrs_there_ = true;
  std::map<datapath::RuleSetId, std::size_t> bound_;
  std::set<datapath::RuleSetId> stricter_;
  std::set<std::pair<datapath::Identity, datapath::Identity>> compared_;  // since take_stricter()
  std::map<datapath::RuleSetId, TimePoint> idle_rules_;                   // since when
  std::map<datapath::Identity, TimePoint> idle_identities_;
  std::set<datapath::RuleSetId> erased_;  // by the last sweep: a packet may still hold the number
};

}  // namespace fairlead::policy
