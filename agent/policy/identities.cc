// SPDX-License-Identifier: Apache-2.0
// Who is who: pods as peers, addresses, CIDRs, and the identities that stand for them.
#include "agent/policy/desired.h"

#include <algorithm>
#include <utility>

#include "agent/policy/sets.h"

namespace fairlead::policy {

void Desired::set_subject(const std::string& uid, const model::PeerPod* pod, bool own,
                          const std::vector<IpAddress>& addresses) {
  Subject now;
  if (pod != nullptr) {
    now = {*pod, nullptr, addresses, own};
    if (!addresses.empty()) now.peers = intern(*pod);
  }
  std::set<IpAddress> touched(addresses.begin(), addresses.end());
  const PeerClass* before = nullptr;
  if (const auto at = subjects_.find(uid); at != subjects_.end()) {
    before = at->second.peers;
    for (const IpAddress& address : at->second.claimed) {
      std::erase_if(addresses_.at(address).claims, [&](const Claim& claim) { return claim.uid == uid; });
      touched.insert(address);
    }
    erase_from(subjects_by_name_, at->second.pod.id.key(), uid);
    subjects_.erase(at);
  }
  if (pod != nullptr) {
    for (const IpAddress& address : addresses) addresses_[address].claims.push_back({uid, now.peers, own});
    subjects_by_name_[pod->id.key()].insert(uid);
    subjects_.emplace(uid, std::move(now));
  }
  for (const IpAddress& address : touched) refresh_address(address);
  if (before != nullptr) release(before);
}

// This node's own word counts first, then the latest.
void Desired::refresh_address(const IpAddress& address) {
  const auto at = addresses_.find(address);
  Address& entry = at->second;
  IdentityEntry* now = nullptr;
  if (entry.own_node) {
    now = &own_node_;
  } else if (!entry.claims.empty()) {
    auto claim = std::ranges::find_if(entry.claims.rbegin(), entry.claims.rend(), &Claim::own);
    if (claim == entry.claims.rend()) claim = entry.claims.rbegin();
    now = identity_for(claim->peers, blocks_.find(address));
  }
  if (IdentityEntry* before = std::exchange(entry.identity, now); before != now) {
    if (before != nullptr) --before->members;
    if (now != nullptr) ++now->members;
    changes_.addresses.insert(address);
  }
  if (now == nullptr) addresses_.erase(at);
}

const PeerClass* Desired::intern(const model::PeerPod& pod) {
  const auto [at, fresh] = classes_.try_emplace(PeerClass{pod.id.ns, pod.labels, pod.named_ports});
  ++at->second;
  if (fresh) {
    const PeerClass* peers = &at->first;
    classes_of_[pod.id.ns].insert(peers);
    const model::Labels labels = namespace_labels(pod.id.ns);
    for (Term* term : active_terms_) {
      if (term->what.matches(*peers, labels)) term->peers.insert(peers);
    }
  }
  return &at->first;
}

void Desired::release(const PeerClass* peers) {
  const auto at = classes_.find(*peers);
  if (at == classes_.end()) return;
  if (at->second > 0) --at->second;
  if (at->second > 0 || identities_of_.contains(peers)) return;
  for (Term* term : active_terms_) term->peers.erase(peers);
  erase_from(classes_of_, at->first.ns, peers);
  classes_.erase(at);
}

const std::set<IdentityEntry*>& Desired::identities_of(const PeerClass* peers) const {
  static const std::set<IdentityEntry*> kNone;
  const auto at = identities_of_.find(peers);
  return at == identities_of_.end() ? kNone : at->second;
}

IdentityEntry* Desired::identity_for(const PeerClass* peers, const Lists& lists) {
  IdentityEntry*& known = identity_of_[{peers, lists}];
  if (known != nullptr) return known;
  auto made = std::make_unique<IdentityEntry>(IdentityEntry{next_identity_++, peers, lists});
  known = made.get();
  identities_.emplace(known->number, std::move(made));
  if (peers != nullptr) identities_of_[peers].insert(known);
  for (const ListId list : lists) holders_[list].insert(known);
  if (started_) {
    for (const auto& [number, set] : rule_sets_) refresh_pair(*set, *known);
  }
  return known;
}

void Desired::refresh_blocks() {
  std::map<ListId, const std::vector<model::IpBlock>*> lists;
  for (const auto& [id, list] : lists_) lists.emplace(id, &list->blocks);
  blocks_ = BlockTable(lists);
  std::map<Cidr, IdentityEntry*> entries;
  std::map<Cidr, datapath::Identity> numbers;
  for (const auto& [cidr, names] : blocks_.entries()) {
    IdentityEntry* entry = names.empty() ? nullptr : identity_for(nullptr, names);
    if (entry != nullptr) ++entry->members;
    entries.emplace(cidr, entry);
    numbers.emplace(cidr, entry == nullptr ? datapath::kWorld : entry->number);
  }
  for (const auto& [cidr, entry] : std::exchange(cidr_entries_, std::move(entries))) {
    if (entry != nullptr) --entry->members;
  }
  if (std::exchange(cidrs_, std::move(numbers)) != cidrs_) changes_.cidrs = true;
  std::vector<IpAddress> all;
  for (const auto& [address, entry] : addresses_) all.push_back(address);
  for (const IpAddress& address : all) refresh_address(address);
}

void Desired::drop_identity(datapath::Identity number) {
  const auto at = identities_.find(number);
  if (at == identities_.end() || at->second->members != 0) return;
  IdentityEntry* identity = at->second.get();
  for (const auto& [id, set] : rule_sets_) {
    if (set->wanted.peers.erase(number) == 0) continue;
    set->changed.insert(number);
    changes_.rules.insert(id);
  }
  for (const ListId list : identity->lists) erase_from(holders_, list, identity);
  identity_of_.erase({identity->peers, identity->lists});
  const PeerClass* peers = identity->peers;
  if (peers != nullptr) erase_from(identities_of_, peers, identity);
  identities_.erase(at);
  if (peers != nullptr && classes_.at(*peers) == 0) release(peers);
}

}  // namespace fairlead::policy
