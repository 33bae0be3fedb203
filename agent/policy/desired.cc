// SPDX-License-Identifier: Apache-2.0
// Rows in, and what others ask.
#include "agent/policy/desired.h"

#include <utility>

#include "agent/policy/sets.h"

namespace fairlead::policy {

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
        for (const IdentityEntry* identity : identities_of(peers)) {
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

void Desired::settle() {
  for (const std::string& uid : std::exchange(dirty_pods_, {})) compute_pod(uid);
  if (std::exchange(blocks_changed_, false)) refresh_blocks();
}

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
