// SPDX-License-Identifier: Apache-2.0
// What is allowed: the rules of each pod of this node, and with which identities.
#include "agent/policy/desired.h"

#include <algorithm>
#include <array>
#include <utility>

#include "agent/policy/sets.h"

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

}  // namespace

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
  auto& peers = set.wanted.peers;
  const auto at = peers.lower_bound(identity.number);
  const bool known = at != peers.end() && at->first == identity.number;
  if (known ? at->second == now : now.empty()) return;
  if (!known) {
    peers.emplace_hint(at, identity.number, std::move(now));
  } else if (now.empty()) {
    peers.erase(at);
  } else {
    at->second = std::move(now);
  }
  set.changed.insert(set.changed.end(), identity.number);
  changes_.rules.insert(set.number);
}

void Desired::fill(RuleSetEntry& set) {
  std::vector<IdentityEntry*> reached;
  for (const CompiledRule& rule : set.spec.rules) {
    if (rule.any_peer && has_names(rule)) {
      for (const auto& [number, identity] : identities_) reached.push_back(identity.get());
    }
    for (const auto& term : rule.terms) {
      for (const PeerClass* peers : term->peers) {
        const auto& identities = identities_of(peers);
        reached.insert(reached.end(), identities.begin(), identities.end());
      }
    }
    if (!rule.blocks) continue;
    if (const auto at = holders_.find(rule.blocks->id); at != holders_.end()) {
      reached.insert(reached.end(), at->second.begin(), at->second.end());
    }
  }
  std::ranges::sort(reached, {}, &IdentityEntry::number);  // in the order in which they are kept
  const auto twice = std::ranges::unique(reached);
  reached.erase(twice.begin(), twice.end());
  for (const IdentityEntry* identity : reached) refresh_pair(set, *identity);
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

}  // namespace fairlead::policy
