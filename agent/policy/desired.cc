// SPDX-License-Identifier: Apache-2.0
#include "agent/policy/desired.h"

#include <algorithm>
#include <array>
#include <utility>

namespace fairlead::policy {
namespace {

constexpr std::array kDirections{Direction::kIngress, Direction::kEgress};

std::size_t index_of(Direction direction) {
  return static_cast<std::size_t>(direction);
}

// Ports that only each peer can tell.
bool has_names(const CompiledRule& rule) {
  return std::ranges::any_of(rule.ports, [](const RulePort& port) { return !port.name.empty(); });
}

template <class Set, class Map>
void erase_from(Map& map, const auto& key, const Set& value) {
  const auto at = map.find(key);
  if (at == map.end()) return;
  at->second.erase(value);
  if (at->second.empty()) map.erase(at);
}

}  // namespace

// Inputs.

void Desired::set_namespace(const std::string& name, std::shared_ptr<const model::Namespace> row) {
  const model::Labels before = namespace_labels(name);
  if (row) {
    namespaces_[name] = std::move(row);
  } else {
    namespaces_.erase(name);
  }
  const model::Labels after = namespace_labels(name);
  const auto classes = classes_of_.find(name);
  if (before == after || classes == classes_of_.end()) return;
  for (Term* term : active_terms_) {
    if (!term->what.namespaces) continue;
    if (term->what.namespaces->matches(before) == term->what.namespaces->matches(after)) continue;
    for (const PeerClass* peers : classes->second) {
      const bool now = term->what.matches(*peers, after);
      if (now == term->peers.contains(peers)) continue;
      if (now) {
        term->peers.insert(peers);
      } else {
        term->peers.erase(peers);
      }
      for (const datapath::RuleSetId number : term->rule_sets) {
        for (const IdentityEntry* identity : classes_.at(*peers).identities) {
          refresh_pair(*rule_sets_.at(number), *identity);
        }
      }
    }
  }
}

void Desired::set_policy(const std::string& key, std::shared_ptr<const model::NetworkPolicy> row) {
  const std::string ns = key.substr(0, key.find('/'));
  CompiledPolicy replaced;  // until the pods are computed, so that what they have in common is not made anew
  if (const auto at = policies_.find(key); at != policies_.end()) {
    replaced = std::move(at->second);
    policies_.erase(at);
    erase_from(policies_of_, ns, key);
  }
  CompiledPolicy* now = nullptr;
  if (row) {
    now = &policies_.emplace(key, interner_.compile(std::move(row))).first->second;
    policies_of_[ns].insert(key);
  }
  if (const auto pods = own_of_.find(ns); pods != own_of_.end()) {
    for (const std::string& uid : pods->second) {
      OwnPod& pod = own_.at(uid);
      const bool selected = pod.policies.erase(key) != 0;
      const bool selects_it = now != nullptr && selects(*now, pod.pod);
      if (selects_it) pod.policies.insert(key);
      if (selected || selects_it) dirty_pods_.insert(uid);
    }
  }
  if (started_) settle();
  replaced = {};
  interner_.prune();
}

void Desired::set_peer(const std::string& uid, std::shared_ptr<const model::PeerPod> row) {
  if (row && row->node == node_) row = nullptr;
  if (own_.contains(uid)) return;
  const bool counts = row && !row->host_network;
  set_subject(uid, row.get(), false, counts ? row->ips : std::vector<IpAddress>());
}

void Desired::set_own(const std::string& uid, std::shared_ptr<const model::PeerPod> row) {
  if (row) {
    own_rows_[uid] = std::move(row);
  } else {
    own_rows_.erase(uid);
  }
  refresh_own(uid);
}

void Desired::set_endpoint(const std::string& key, std::shared_ptr<const model::ServedNetns> row) {
  std::shared_ptr<const model::ServedNetns> before;
  if (const auto at = endpoints_.find(key); at != endpoints_.end()) before = at->second;
  if (row) {
    endpoints_[key] = row;
  } else {
    endpoints_.erase(key);
  }
  std::set<std::string> touched;
  for (const auto& each : {before, row}) {
    if (!each) continue;
    if (each->ifindex == 0 && each->pod.name.empty()) {  // the node's own namespace
      for (const IpAddress& address : each->addresses) {
        addresses_[address].own_node = each == row;
        refresh_address(address);
      }
      continue;
    }
    if (!each->pod.uid.empty()) {
      touched.insert(each->pod.uid);
    } else if (const auto named = subjects_by_name_.find(each->pod.key()); named != subjects_by_name_.end()) {
      touched.insert(named->second.begin(), named->second.end());
    }
  }
  for (const std::string& uid : touched) refresh_own(uid);
}

std::vector<IpAddress> Desired::endpoint_addresses(const model::ObjectId& pod) const {
  std::vector<IpAddress> addresses;
  for (const auto& [key, endpoint] : endpoints_) {
    const model::ObjectId& of = endpoint->pod;
    if (of.uid.empty() ? of.key() != pod.key() || of.name.empty() : of.uid != pod.uid) continue;
    addresses.insert(addresses.end(), endpoint->addresses.begin(), endpoint->addresses.end());
  }
  return addresses;
}

void Desired::refresh_own(const std::string& uid) {
  const auto row = own_rows_.find(uid);
  const auto known = own_.find(uid);
  if (row == own_rows_.end() && known == own_.end()) return;
  const model::PeerPod pod = row != own_rows_.end() ? *row->second : known->second.pod;
  const std::vector<IpAddress> addresses = endpoint_addresses(pod.id);
  if (row == own_rows_.end() && addresses.empty()) {
    for (const RuleSetEntry* set : known->second.rules) {
      if (set != nullptr) --rule_sets_.at(set->number)->pods;
    }
    erase_from(own_of_, pod.id.ns, uid);
    own_.erase(known);
    dirty_pods_.erase(uid);
    changes_.pods.insert(uid);
    set_subject(uid, nullptr, true, {});
    return;
  }
  const bool fresh = known == own_.end();
  OwnPod& own = own_[uid];
  if (fresh || own.pod != pod) {
    own.pod = pod;
    own_of_[pod.id.ns].insert(uid);
    own.policies.clear();
    if (const auto keys = policies_of_.find(pod.id.ns); keys != policies_of_.end()) {
      for (const std::string& key : keys->second) {
        if (selects(policies_.at(key), pod)) own.policies.insert(key);
      }
    }
    dirty_pods_.insert(uid);
  }
  set_subject(uid, &pod, true, pod.host_network ? std::vector<IpAddress>() : addresses);
  if (started_) settle();
}

// Pods as peers.

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
  ++at->second.subjects;
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
  if (at->second.subjects > 0) --at->second.subjects;
  if (at->second.subjects > 0 || !at->second.identities.empty()) return;
  for (Term* term : active_terms_) term->peers.erase(peers);
  erase_from(classes_of_, at->first.ns, peers);
  classes_.erase(at);
}

IdentityEntry* Desired::identity_for(const PeerClass* peers, const Lists& lists) {
  IdentityEntry*& known = identity_of_[{peers, lists}];
  if (known != nullptr) return known;
  auto made = std::make_unique<IdentityEntry>(IdentityEntry{next_identity_++, peers, lists});
  known = made.get();
  identities_.emplace(known->number, std::move(made));
  if (peers != nullptr) classes_.at(*peers).identities.insert(known);
  for (const ListId list : lists) holders_[list].insert(known);
  if (started_) {
    for (const auto& [number, set] : rule_sets_) refresh_pair(*set, *known);
  }
  return known;
}

// Rules.

bool Desired::selects(const CompiledPolicy& policy, const model::PeerPod& pod) const {
  return !pod.host_network && policy.row->id.ns == pod.id.ns && policy.row->pods.matches(pod.labels);
}

void Desired::compute_pod(const std::string& uid) {
  OwnPod& pod = own_.at(uid);
  for (const Direction direction : kDirections) {
    std::vector<const CompiledPolicy*> isolating;
    for (const std::string& key : pod.policies) {
      const CompiledPolicy& policy = policies_.at(key);
      if (policy.isolates(direction)) isolating.push_back(&policy);
    }
    const RuleSetEntry* now = nullptr;
    if (!isolating.empty()) now = rule_set_for(compute_rules(isolating, direction, pod.pod.named_ports));
    const RuleSetEntry*& rules = pod.rules[index_of(direction)];
    if (now != nullptr) ++rule_sets_.at(now->number)->pods;
    if (rules != nullptr) --rule_sets_.at(rules->number)->pods;
    rules = now;
  }
  changes_.pods.insert(uid);
}

const RuleSetEntry* Desired::rule_set_for(RuleSpec spec) {
  RuleSetEntry*& known = rule_set_by_text_[spec.text];
  if (known != nullptr) return known;
  auto made = std::make_unique<RuleSetEntry>();
  known = made.get();
  datapath::RuleSetId number = 1;
  for (const datapath::RuleSetId taken : taken_numbers_) {
    if (taken != number) break;
    ++number;
  }
  taken_numbers_.insert(number);
  made->number = number;
  made->spec = std::move(spec);
  RuleSetEntry& set = *rule_sets_.emplace(number, std::move(made)).first->second;
  use_terms(set);
  for (const CompiledRule& rule : set.spec.rules) {
    if (!rule.any_peer) continue;
    for (const RulePort& port : rule.ports) {
      if (port.name.empty()) set.wanted.any_peer.push_back(port.range);
    }
  }
  set.wanted.any_peer = join(std::move(set.wanted.any_peer));
  // A list that is new is counted in with its prefixes, by settle().
  if (started_) fill(set);
  return known;
}

void Desired::use_terms(RuleSetEntry& set) {
  for (const CompiledRule& rule : set.spec.rules) {
    for (const auto& term : rule.terms) {
      if (!term->rule_sets.insert(set.number).second || term->rule_sets.size() > 1) continue;
      active_terms_.insert(term.get());
      const auto look_at = [&](const std::string& ns, const std::set<const PeerClass*>& classes) {
        if (!term->what.namespaces ? ns != term->what.ns : !term->what.namespaces->matches(namespace_labels(ns)))
          return;
        for (const PeerClass* peers : classes) {
          if (term->what.pods.matches(peers->labels)) term->peers.insert(peers);
        }
      };
      for (const auto& [ns, classes] : classes_of_) look_at(ns, classes);
    }
    if (rule.blocks && rule.blocks->rule_sets++ == 0) {
      lists_[rule.blocks->id] = rule.blocks.get();
      blocks_changed_ = true;
    }
  }
}

bool Desired::reaches(const CompiledRule& rule, const IdentityEntry& identity) const {
  if (rule.any_peer) return true;
  if (rule.blocks && std::ranges::binary_search(identity.lists, rule.blocks->id)) return true;
  return identity.peers != nullptr &&
         std::ranges::any_of(rule.terms, [&](const auto& term) { return term->peers.contains(identity.peers); });
}

Ranges Desired::ranges(const RuleSetEntry& set, const IdentityEntry& identity) const {
  static const std::vector<model::NamedPort> kNone;
  Ranges all;
  for (const CompiledRule& rule : set.spec.rules) {
    if ((rule.any_peer && !has_names(rule)) || !reaches(rule, identity)) continue;
    const Ranges some = resolve(rule.ports, identity.peers == nullptr ? kNone : identity.peers->named_ports);
    all.insert(all.end(), some.begin(), some.end());
  }
  all = join(std::move(all));
  return covers(set.wanted.any_peer, all) ? Ranges() : all;
}

void Desired::refresh_pair(RuleSetEntry& set, const IdentityEntry& identity) {
  Ranges now = ranges(set, identity);
  const auto at = set.wanted.peers.find(identity.number);
  if (at == set.wanted.peers.end() ? now.empty() : at->second == now) return;
  if (now.empty()) {
    set.wanted.peers.erase(at);
  } else {
    set.wanted.peers[identity.number] = std::move(now);
  }
  set.changed.insert(identity.number);
  changes_.rules.insert(set.number);
}

void Desired::fill(RuleSetEntry& set) {
  std::set<IdentityEntry*> reached;
  for (const CompiledRule& rule : set.spec.rules) {
    if (rule.any_peer && has_names(rule)) {
      for (const auto& [number, identity] : identities_) reached.insert(identity.get());
    }
    for (const auto& term : rule.terms) {
      for (const PeerClass* peers : term->peers) {
        const auto& identities = classes_.at(*peers).identities;
        reached.insert(identities.begin(), identities.end());
      }
    }
    if (!rule.blocks) continue;
    if (const auto at = holders_.find(rule.blocks->id); at != holders_.end()) {
      reached.insert(at->second.begin(), at->second.end());
    }
  }
  for (const IdentityEntry* identity : reached) refresh_pair(set, *identity);
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

void Desired::settle() {
  for (const std::string& uid : std::exchange(dirty_pods_, {})) compute_pod(uid);
  if (std::exchange(blocks_changed_, false)) refresh_blocks();
}

// Numbers.

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

void Desired::drop_rule_set(datapath::RuleSetId number) {
  const auto at = rule_sets_.find(number);
  if (at == rule_sets_.end()) return;
  for (const CompiledRule& rule : at->second->spec.rules) {
    for (const auto& term : rule.terms) {
      term->rule_sets.erase(number);
      if (!term->rule_sets.empty()) continue;
      term->peers.clear();
      active_terms_.erase(term.get());
    }
    if (rule.blocks && --rule.blocks->rule_sets == 0) {
      lists_.erase(rule.blocks->id);
      blocks_changed_ = true;
    }
  }
  rule_set_by_text_.erase(at->second->spec.text);
  rule_sets_.erase(at);
  settle();
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
  if (peers != nullptr) classes_.at(*peers).identities.erase(identity);
  identities_.erase(at);
  if (peers != nullptr && classes_.at(*peers).subjects == 0) release(peers);
}

// What others ask.

Desired::Changes Desired::take_changes() {
  return std::exchange(changes_, {});
}

std::optional<datapath::Identity> Desired::identity(const IpAddress& address) const {
  const auto at = addresses_.find(address);
  return at == addresses_.end() ? std::nullopt : std::optional(at->second.identity->number);
}

datapath::Identity Desired::identity_by_blocks(const IpAddress& address) const {
  const auto at = identity_of_.find({nullptr, blocks_.find(address)});
  return at == identity_of_.end() ? datapath::kWorld : at->second->number;
}

RuleSetEntry* Desired::rule_set(datapath::RuleSetId number) {
  const auto at = rule_sets_.find(number);
  return at == rule_sets_.end() ? nullptr : at->second.get();
}

const OwnPod* Desired::own_pod(const std::string& uid) const {
  const auto at = own_.find(uid);
  return at == own_.end() ? nullptr : &at->second;
}

std::vector<IpAddress> Desired::own_addresses(const std::string& uid) const {
  const auto at = subjects_.find(uid);
  return at == subjects_.end() ? std::vector<IpAddress>() : at->second.claimed;
}

const model::PeerPod* Desired::find_pod(const std::string& key) const {
  const auto at = subjects_by_name_.find(key);
  return at == subjects_by_name_.end() ? nullptr : &subjects_.at(*at->second.rbegin()).pod;
}

const model::PeerPod* Desired::find_pod(const IpAddress& address) const {
  const auto at = addresses_.find(address);
  if (at == addresses_.end() || at->second.claims.empty()) return nullptr;
  return &subjects_.at(at->second.claims.back().uid).pod;
}

model::Labels Desired::namespace_labels(const std::string& name) const {
  model::Labels labels;
  if (const auto at = namespaces_.find(name); at != namespaces_.end()) labels = at->second->labels;
  labels.try_emplace(model::kNamespaceNameLabel, name);
  return labels;
}

}  // namespace fairlead::policy
