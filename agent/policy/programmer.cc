// SPDX-License-Identifier: Apache-2.0
#include "agent/policy/programmer.h"

#include <algorithm>
#include <unordered_set>
#include <utility>
#include <vector>

#include "agent/policy/ports.h"

namespace fairlead::policy {
namespace {

const Ranges& ports_of(const datapath::RuleSet& set, datapath::Identity peer) {
  static const Ranges kNone;
  const auto at = set.peers.find(peer);
  return at == set.peers.end() ? kNone : at->second;
}

// All that the set allows with `peer`.
Ranges all_ports_of(const datapath::RuleSet& set, datapath::Identity peer) {
  Ranges all = set.any_peer;
  const Ranges& more = ports_of(set, peer);
  all.insert(all.end(), more.begin(), more.end());
  return join(std::move(all));
}

}  // namespace

// In every set in force the identity has its ports.
Result<> Programmer::ready(datapath::Identity identity) const {
  for (const auto& [number, uses] : bound_) {
    const RuleSetEntry* set = desired_.rule_set(number);
    if (set == nullptr || !set->changed.contains(identity)) continue;
    return fail(Code::kExhausted, "rule set {} has no room for identity {}: the old one stays in force", number,
                identity);
  }
  return {};
}

// Which sets in force deny an address of identity `after` what they allowed it as `before`.
void Programmer::compare(datapath::Identity before, datapath::Identity after) {
  if (before == after || !compared_.emplace(before, after).second) return;
  for (const auto& [number, uses] : bound_) {
    const auto set = there_.rules.find(number);
    if (set == there_.rules.end() || covers(all_ports_of(set->second, after), ports_of(set->second, before))) continue;
    stricter_.insert(number);
  }
}

Result<> Programmer::sync_address(const IpAddress& address) {
  const auto wanted = desired_.identity(address);
  const auto at = there_.addresses.find(address);
  const bool is_there = at != there_.addresses.end();
  const datapath::Identity before = is_there ? at->second : desired_.identity_by_blocks(address);
  if (!wanted) {
    if (!is_there) return {};
    FL_TRY(maps_.erase_identity(address));
    there_.addresses.erase(at);
    compare(before, desired_.identity_by_blocks(address));
    return {};
  }
  if (is_there && before == *wanted) return {};
  FL_TRY(ready(*wanted));
  FL_TRY(maps_.set_identity(address, *wanted));
  there_.addresses[address] = *wanted;
  compare(before, *wanted);
  return {};
}

// No rule set in force speaks of a list that comes or goes, so none judges anybody otherwise meanwhile; longer prefixes
// come first and go last all the same.
Result<> Programmer::sync_cidrs() {
  cidrs_there_ = false;
  std::vector<std::pair<Cidr, datapath::Identity>> differing;
  for (const auto& [cidr, identity] : desired_.cidrs()) {
    const auto at = there_.cidrs.find(cidr);
    if (at == there_.cidrs.end() || at->second != identity) differing.emplace_back(cidr, identity);
  }
  std::vector<Cidr> surplus;
  for (const auto& [cidr, identity] : there_.cidrs) {
    if (!desired_.cidrs().contains(cidr)) surplus.push_back(cidr);
  }
  std::ranges::stable_sort(differing, std::greater(), [](const auto& entry) { return entry.first.prefix(); });
  std::ranges::stable_sort(surplus, std::less(), &Cidr::prefix);
  for (const auto& [cidr, identity] : differing) {
    FL_TRY(ready(identity));
    FL_TRY(maps_.set_identity(cidr, identity));
    there_.cidrs[cidr] = identity;
  }
  for (const Cidr& cidr : surplus) {
    FL_TRY(maps_.erase_identity(cidr));
    there_.cidrs.erase(cidr);
  }
  cidrs_there_ = true;
  return {};
}

void Programmer::note(const RuleSetEntry& set, datapath::Identity peer, const Ranges& before) {
  // Of an identity that nobody has any more, nobody notices.
  if (before.empty() || !desired_.identities().contains(peer)) return;
  if (!covers(all_ports_of(there_.rules[set.number], peer), before)) stricter_.insert(set.number);
}

// As many as can be in one go; sync_peer() tells why another one cannot.
void Programmer::allow_together(RuleSetEntry& set) {
  datapath::RuleSet& there = there_.rules[set.number];
  std::vector<datapath::PeerPorts> peers;
  for (const datapath::Identity peer : set.changed) {
    const auto wanted = set.wanted.peers.find(peer);
    if (wanted != set.wanted.peers.end() && wanted->second != ports_of(there, peer)) peers.push_back(*wanted);
  }
  if (peers.size() < 2) return;
  peers.resize(maps_.allow_first(set.number, peers));
  for (auto& [peer, ports] : peers) {
    const Ranges before = std::exchange(there.peers[peer], std::move(ports));
    set.changed.erase(peer);
    note(set, peer, before);
  }
}

Result<> Programmer::sync_peer(RuleSetEntry& set, datapath::Identity peer) {
  datapath::RuleSet& there = there_.rules[set.number];
  const Ranges& wanted = ports_of(set.wanted, peer);
  const Ranges before = ports_of(there, peer);
  if (wanted == before) return {};
  if (wanted.empty()) {
    FL_TRY(maps_.forbid(set.number, peer));
    there.peers.erase(peer);
  } else {
    FL_TRY(maps_.allow(set.number, peer, wanted));
    there.peers[peer] = wanted;
  }
  note(set, peer, before);
  return {};
}

Result<> Programmer::sync_rules(datapath::RuleSetId number) {
  RuleSetEntry* set = desired_.rule_set(number);
  const auto there = there_.rules.find(number);
  if (set == nullptr || there == there_.rules.end()) return {};
  if (there->second.any_peer != set->wanted.any_peer) {
    FL_TRY(maps_.put_rules(number, set->wanted.any_peer));
    there->second.any_peer = set->wanted.any_peer;
  }
  allow_together(*set);
  Result<> outcome;
  for (const bool growing : {true, false}) {  // what is allowed anew comes first
    for (auto peer = set->changed.begin(); peer != set->changed.end();) {
      if (set->wanted.peers.contains(*peer) != growing) {
        ++peer;
      } else if (auto synced = sync_peer(*set, *peer)) {
        peer = set->changed.erase(peer);
      } else {
        if (outcome) outcome = std::move(synced);
        ++peer;
      }
    }
  }
  return outcome;
}

Result<> Programmer::publish(datapath::RuleSetId number) {
  RuleSetEntry& set = *desired_.rule_set(number);
  const bool blocks =
      std::ranges::any_of(set.spec.rules, [](const CompiledRule& rule) { return rule.blocks != nullptr; });
  if (blocks && !cidrs_there_) return fail(Code::kExhausted, "its ipBlocks are not all in the maps");
  if (!there_.rules.contains(number)) {
    FL_TRY(maps_.put_rules(number, set.wanted.any_peer));
    there_.rules[number].any_peer = set.wanted.any_peer;
    set.changed.clear();
    for (const auto& [peer, ports] : set.wanted.peers) set.changed.insert(peer);
  }
  return sync_rules(number);
}

void Programmer::bind(datapath::RuleSetId number) {
  if (number != 0) ++bound_[number];
}

void Programmer::unbind(datapath::RuleSetId number) {
  if (const auto at = bound_.find(number); at != bound_.end() && --at->second == 0) bound_.erase(at);
}

bool Programmer::is_stricter(datapath::RuleSetId before, datapath::RuleSetId after) const {
  if (before == after || after == 0) return false;
  const auto now = there_.rules.find(after);
  const auto old = there_.rules.find(before);
  if (now == there_.rules.end()) return true;
  if (old == there_.rules.end()) return now->second.any_peer != Ranges{kAllPorts};  // 0: all was allowed
  return !covers(now->second.any_peer, old->second.any_peer) ||
         std::ranges::any_of(old->second.peers, [&](const auto& peer) {
           return !covers(all_ports_of(now->second, peer.first), peer.second);
         });
}

Result<bool> Programmer::sweep(TimePoint now, Duration grace, bool keep_unknown) {
  for (const datapath::RuleSetId number : std::exchange(erased_, {})) desired_.release_rule_set_number(number);
  FL_TRY(sweep_rule_sets(now, grace, keep_unknown));
  sweep_identities(now, grace);
  return !idle_rules_.empty() || !idle_identities_.empty() || !erased_.empty();
}

Result<> Programmer::sweep_rule_sets(TimePoint now, Duration grace, bool keep_unknown) {
  std::set<datapath::RuleSetId> idle;
  const auto look_at = [&](datapath::RuleSetId number) {
    const RuleSetEntry* set = desired_.rule_set(number);
    if (!bound_.contains(number) && (set == nullptr ? !keep_unknown : set->pods == 0)) idle.insert(number);
  };
  for (const auto& [number, set] : there_.rules) look_at(number);
  for (const auto& [number, set] : desired_.rule_sets()) look_at(number);
  std::erase_if(idle_rules_, [&](const auto& entry) { return !idle.contains(entry.first); });
  for (const datapath::RuleSetId number : idle) {
    const auto since = idle_rules_.try_emplace(number, now).first;
    if (now - since->second < grace) continue;
    if (there_.rules.contains(number)) FL_TRY(maps_.erase_rules(number));
    there_.rules.erase(number);
    desired_.drop_rule_set(number);
    erased_.insert(number);
    idle_rules_.erase(since);
  }
  return {};
}

void Programmer::sweep_identities(TimePoint now, Duration grace) {
  std::vector<datapath::Identity> idle;
  for (const auto& [number, identity] : desired_.identities()) {
    if (identity->members == 0) idle.push_back(number);
  }
  if (!idle.empty()) {
    std::unordered_set<datapath::Identity> used;
    for (const auto& [address, identity] : there_.addresses) used.insert(identity);
    for (const auto& [cidr, identity] : there_.cidrs) used.insert(identity);
    std::erase_if(idle, [&](datapath::Identity number) { return used.contains(number); });
  }
  std::erase_if(idle_identities_, [&](const auto& entry) { return !std::ranges::binary_search(idle, entry.first); });
  for (const datapath::Identity number : idle) {
    const auto since = idle_identities_.try_emplace(number, now).first;
    if (now - since->second < grace) continue;
    desired_.drop_identity(number);
    idle_identities_.erase(since);
  }
}

}  // namespace fairlead::policy
