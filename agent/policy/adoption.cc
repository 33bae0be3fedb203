// SPDX-License-Identifier: Apache-2.0
// The start: which numbers of the maps go on.
#include "agent/policy/desired.h"

#include <algorithm>
#include <utility>

namespace fairlead::policy {

void Desired::start(const datapath::PolicyContents& maps) {
  for (const auto& [address, identity] : maps.addresses) next_identity_ = std::max(next_identity_, identity + 1);
  for (const auto& [cidr, identity] : maps.cidrs) next_identity_ = std::max(next_identity_, identity + 1);
  for (const auto& [number, set] : maps.rules) {
    for (const auto& [identity, ports] : set.peers) next_identity_ = std::max(next_identity_, identity + 1);
  }
  // Numbers up to here were given without regard to the maps: all are given anew.
  std::map<datapath::Identity, std::unique_ptr<IdentityEntry>> fresh;
  for (auto& [number, identity] : identities_) {
    identity->number = next_identity_++;
    fresh.emplace(identity->number, std::move(identity));
  }
  identities_ = std::move(fresh);
  for (const auto& [number, set] : maps.rules) taken_numbers_.insert(number);
  settle();
  std::vector<datapath::Identity> unused;  // of before the ipBlocks were known
  for (const auto& [number, identity] : identities_) {
    if (identity->members == 0) unused.push_back(number);
  }
  for (const datapath::Identity number : unused) drop_identity(number);
  adopt_identities(maps);
  started_ = true;
  for (const auto& [number, set] : rule_sets_) fill(*set);
  adopt_rule_sets(maps);
  for (const auto& [address, entry] : addresses_) changes_.addresses.insert(address);
  for (const auto& [address, identity] : maps.addresses) changes_.addresses.insert(address);
  changes_.cidrs = true;
  for (const auto& [uid, pod] : own_) changes_.pods.insert(uid);
}

// An identity keeps a number only where the maps give it to the very same addresses and CIDRs, and to nobody else: then
// no packet can tell old rules from new ones by it. A CIDR is the same only beside the same others: without one that is
// a hole in it now, it would stand for more addresses.
void Desired::adopt_identities(const datapath::PolicyContents& maps) {
  struct Use {
    std::set<IpAddress> addresses{};
    std::set<Cidr> cidrs{};
    bool operator==(const Use&) const = default;
  };
  std::map<datapath::Identity, Use> there;
  for (const auto& [address, identity] : maps.addresses) there[identity].addresses.insert(address);
  for (const auto& [cidr, identity] : maps.cidrs) there[identity].cidrs.insert(cidr);
  const bool same_prefixes =
      std::ranges::equal(maps.cidrs, cidr_entries_, {}, &std::pair<const Cidr, datapath::Identity>::first,
                         &std::pair<const Cidr, IdentityEntry*>::first);
  std::map<IdentityEntry*, Use> wanted;
  for (const auto& [address, entry] : addresses_) wanted[entry.identity].addresses.insert(address);
  for (const auto& [cidr, entry] : cidr_entries_) {
    if (entry != nullptr) wanted[entry].cidrs.insert(cidr);
  }
  for (const auto& [identity, use] : wanted) {
    if (identity == &own_node_ || (identity->peers == nullptr && !same_prefixes)) continue;
    const auto address = use.addresses.empty() ? maps.addresses.end() : maps.addresses.find(*use.addresses.begin());
    const auto cidr = use.cidrs.empty() ? maps.cidrs.end() : maps.cidrs.find(*use.cidrs.begin());
    const datapath::Identity number = address != maps.addresses.end() ? address->second
                                      : cidr != maps.cidrs.end()      ? cidr->second
                                                                      : datapath::kWorld;
    if (number <= datapath::kOwnNode || there.at(number) != use) continue;
    auto entry = identities_.extract(identity->number);
    identity->number = entry.key() = number;
    identities_.insert(std::move(entry));
  }
  for (auto& [cidr, number] : cidrs_) {
    if (const IdentityEntry* entry = cidr_entries_.at(cidr); entry != nullptr) number = entry->number;
  }
}

// A rule set keeps its number where the maps hold exactly what it says. Others get a number of their own: what is in
// force is not changed into something else under it.
void Desired::adopt_rule_sets(const datapath::PolicyContents& maps) {
  std::multimap<datapath::RuleSet, datapath::RuleSetId> there;  // unlike rules may come to the same, as long as they do
  for (const auto& [number, set] : maps.rules) there.emplace(set, number);
  std::vector<std::pair<datapath::RuleSetId, datapath::RuleSetId>> renamed;
  for (const auto& [number, set] : rule_sets_) {
    if (const auto at = there.find(set->wanted); at != there.end()) {
      renamed.emplace_back(number, at->second);
      there.erase(at);
    }
  }
  for (const auto& [from, to] : renamed) {
    auto entry = rule_sets_.extract(from);
    entry.key() = to;
    RuleSetEntry& set = *entry.mapped();
    set.number = to;
    set.changed.clear();
    for (const CompiledRule& rule : set.spec.rules) {
      for (const auto& term : rule.terms) {
        term->rule_sets.erase(from);
        term->rule_sets.insert(to);
      }
    }
    rule_sets_.insert(std::move(entry));
    taken_numbers_.erase(from);
  }
  changes_.rules.clear();
  for (const auto& [number, set] : rule_sets_) changes_.rules.insert(number);
}

}  // namespace fairlead::policy
