// SPDX-License-Identifier: Apache-2.0
#include "agent/services/index.h"

#include <utility>

namespace fairlead::services {
namespace {

// How many dead pods that no slice lists are remembered, in case a late slice does.
constexpr std::size_t kRememberedDead = 1024;

}  // namespace

EndpointSlices ServiceState::slice_list() const {
  EndpointSlices list;
  list.reserve(slices.size());
  for (const auto& [key, slice] : slices) list.push_back(slice);
  return list;
}

bool ServiceIndex::set_service(const std::string& key, const std::shared_ptr<const model::Service>& after) {
  ServiceState& state = services_[key];
  const auto before = std::exchange(state.declared, after);
  return !before || !after || *before != *after;
}

std::set<std::string> ServiceIndex::set_slice(const std::string& key,
                                              const std::shared_ptr<const model::EndpointSlice>& before,
                                              const std::shared_ptr<const model::EndpointSlice>& after) {
  std::set<std::string> touched;
  if (before && after && *before == *after) return touched;
  if (after) {  // listed before it is unlisted: a pod that stays is never unlisted in between
    list(*after);
    touched.insert(after->service_key());
  }
  if (before) {
    unlist(*before);
    services_[before->service_key()].slices.erase(key);
    touched.insert(before->service_key());
  }
  if (after) services_[after->service_key()].slices[key] = after;
  return touched;
}

void ServiceIndex::set_pod(const std::string& uid, const std::shared_ptr<const model::LocalPod>& before,
                           const std::shared_ptr<const model::LocalPod>& after) {
  if (after) {
    pods_[uid] = after;
    dead_.erase(uid);
    return;
  }
  model::LocalPod dead = *before;
  dead.terminal = true;
  pods_[uid] = std::make_shared<const model::LocalPod>(std::move(dead));
  dead_.insert(uid);
  if (!listed_.contains(uid)) remember_dead(uid);
}

void ServiceIndex::remember_dead(const std::string& uid) {
  unlisted_dead_.push_back(uid);
  if (unlisted_dead_.size() <= kRememberedDead) return;
  const std::string oldest = std::move(unlisted_dead_.front());
  unlisted_dead_.pop_front();
  if (listed_.contains(oldest) || dead_.erase(oldest) == 0) return;
  pods_.erase(oldest);
}

ServiceState* ServiceIndex::find(const std::string& key) {
  const auto at = services_.find(key);
  return at == services_.end() ? nullptr : &at->second;
}

std::set<std::string> ServiceIndex::services_of(const std::string& uid) const {
  std::set<std::string> keys;
  if (const auto at = listed_.find(uid); at != listed_.end()) {
    for (const auto& [key, count] : at->second) keys.insert(key);
  }
  return keys;
}

std::set<std::string> ServiceIndex::services_with_local_pods() const {
  std::set<std::string> keys;
  for (const auto& [uid, pod] : pods_) keys.merge(services_of(uid));
  return keys;
}

std::set<std::string> ServiceIndex::local_pods_of(const std::string& service_key) const {
  std::set<std::string> uids;
  const auto at = services_.find(service_key);
  if (at == services_.end()) return uids;
  for (const auto& [key, slice] : at->second.slices) {
    for (const model::Endpoint& endpoint : slice->endpoints) {
      if (may_be_local(endpoint) && pods_.contains(endpoint.target_uid)) uids.insert(endpoint.target_uid);
    }
  }
  return uids;
}

void ServiceIndex::prune(const std::string& key) {
  const auto at = services_.find(key);
  if (at == services_.end()) return;
  const ServiceState& state = at->second;
  if (!state.declared && state.slices.empty() && state.programmed.empty()) services_.erase(at);
}

bool ServiceIndex::may_be_local(const model::Endpoint& endpoint) const {
  return !endpoint.target_uid.empty() && (endpoint.node == node_ || endpoint.node.empty());
}

void ServiceIndex::list(const model::EndpointSlice& slice) {
  for (const model::Endpoint& endpoint : slice.endpoints) {
    if (may_be_local(endpoint)) ++listed_[endpoint.target_uid][slice.service_key()];
  }
}

void ServiceIndex::unlist(const model::EndpointSlice& slice) {
  for (const model::Endpoint& endpoint : slice.endpoints) {
    if (!may_be_local(endpoint)) continue;
    const auto at = listed_.find(endpoint.target_uid);
    const auto service = at->second.find(slice.service_key());
    if (--service->second == 0) at->second.erase(service);
    if (!at->second.empty()) continue;
    listed_.erase(at);
    if (dead_.contains(endpoint.target_uid)) remember_dead(endpoint.target_uid);
  }
}

}  // namespace fairlead::services
