// SPDX-License-Identifier: Apache-2.0
// ServiceIndex: what is known of every Service, found by key and by the pods behind it.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "agent/services/plan.h"

namespace fairlead::services {

// One Service: what is declared, what follows, and what was done about it.
struct ServiceState {
  std::shared_ptr<const model::Service> declared;   // nullptr: deleted, or only slices speak of it so far
  std::shared_ptr<const model::Service> effective;  // `declared` with all its addresses; nullptr until it has them
  std::map<std::string, std::shared_ptr<const model::EndpointSlice>> slices;  // by key
  std::set<std::string> programmed;  // names of entries that may be in the maps
  std::size_t backends = 0;          // in those entries
  std::vector<std::string> unread;   // the declared Service's, as last warned of

  EndpointSlices slice_list() const;
};

// Owner and thread: the services domain on its loop. Cost: a slice costs its endpoints that are on this node, a pod the
// Services that list it; endpoints of other nodes are not indexed.
class ServiceIndex {
 public:
  explicit ServiceIndex(std::string node) : node_(std::move(node)) {}

  // False where the change says nothing new.
  bool set_service(const std::string& key, const std::shared_ptr<const model::Service>& after);
  // The keys of the Services whose endpoints changed: the slice's, before and after.
  std::set<std::string> set_slice(const std::string& key, const std::shared_ptr<const model::EndpointSlice>& before,
                                  const std::shared_ptr<const model::EndpointSlice>& after);
  // A pod that is gone is remembered as dead while a slice lists it, and for a while after: slices lag behind.
  void set_pod(const std::string& uid, const std::shared_ptr<const model::LocalPod>& before,
               const std::shared_ptr<const model::LocalPod>& after);

  // nullptr where the Service is unknown.
  ServiceState* find(const std::string& key);
  const std::map<std::string, ServiceState>& all() const { return services_; }
  const LocalPods& pods() const { return pods_; }
  // Services whose slices list the pod.
  std::set<std::string> services_of(const std::string& uid) const;
  // Services that list any pod known here.
  std::set<std::string> services_with_local_pods() const;
  // Pods known here that the Service's slices list.
  std::set<std::string> local_pods_of(const std::string& service_key) const;
  // Drops the Service's state if nobody declares it, no slice speaks of it and no map holds it.
  void prune(const std::string& key);

 private:
  bool may_be_local(const model::Endpoint& endpoint) const;
  void list(const model::EndpointSlice& slice);
  void unlist(const model::EndpointSlice& slice);
  void remember_dead(const std::string& uid);

  std::string node_;
  std::map<std::string, ServiceState> services_;
  std::unordered_map<std::string, std::map<std::string, unsigned>> listed_;  // uid → Service key → how often
  LocalPods pods_;
  std::unordered_set<std::string> dead_;   // uids of pods_ whose rows are gone
  std::deque<std::string> unlisted_dead_;  // oldest first; bounded
};

}  // namespace fairlead::services
