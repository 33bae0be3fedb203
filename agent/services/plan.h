// SPDX-License-Identifier: Apache-2.0
// What the maps shall say about one Service: kube-proxy's rules for endpoints, corrected by what this node knows at
// first hand of its own pods. Pure and deterministic.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/datapath/load_balancer.h"
#include "agent/model/rows.h"

namespace fairlead::services {

using EndpointSlices = std::vector<std::shared_ptr<const model::EndpointSlice>>;

// By pod uid. A pod of which nothing is left stays here as a terminal row for as long as a slice may still list it.
using LocalPods = std::unordered_map<std::string, std::shared_ptr<const model::LocalPod>>;

// Where the clients are, and what holds where a Service says nothing.
struct Site {
  std::string node;
  std::string zone;  // empty: unknown
  Balancing balancing = Balancing::kRandom;
  bool operator==(const Site&) const = default;
};

// One endpoint of one Service port, with local truth applied.
struct PlannedBackend {
  datapath::Backend backend;
  bool ready = false;
  bool serving = false;
  bool terminating = false;
  bool active = false;     // gets new connections
  std::string target_uid;  // of the pod behind it, or empty
  std::string node;
  std::string zone;
  std::uint32_t weight = 1;
  bool operator==(const PlannedBackend&) const = default;
};

struct ServicePlan {
  // "namespace/service:port/TCP/4" → entry. The name holds the Service port's number, which with the protocol is
  // unique.
  std::map<std::string, datapath::ServiceEntry> entries;
  bool operator==(const ServicePlan&) const = default;
};

// False for headless and ExternalName Services, and those that are another proxy's.
bool is_served(const model::Service& service);
std::string entry_name(const model::Service& service, const model::ServicePort& port, Family family);
Balancing balancing_of(const model::Service& service, const Site& site);

// Every endpoint that the slices list for `port` in `family`, sorted by address and port, each once: of duplicates the
// one that is most fit to serve. Active are the ready ones; where there are none, those that serve while they
// terminate.
//
// internalTrafficPolicy Local looks at this node's endpoints alone, whatever hints say; it may find none. Otherwise, if
// every ready endpoint has a hint for nodes and one is for this node, those for this node are active; if not so, and
// every one has a hint for zones and one is for this zone, those for this zone; else all. Weights of zones come last:
// who weighs 0 is not active, unless all do.
//
// Local truth is joined by target_uid and never adds an endpoint: dead, terminating or not ready always wins; ready
// wins unless the slice says that the endpoint terminates. With publishNotReadyAddresses only a dead pod is taken out.
// What local truth made ready has no hints yet: it counts as hinted for its own node and zone, which are this node's.
std::vector<PlannedBackend> compute_backends(const model::Service& service, const model::ServicePort& port,
                                             Family family, const EndpointSlices& slices, const LocalPods& local,
                                             const Site& site);

// Services that are not served, and those without an address, have no entries. A port without active endpoints
// has an entry without backends: connects to it are refused. Endpoints that are listed and not active drain: they keep
// the connections that they have.
ServicePlan compute_service_plan(const model::Service& service, const EndpointSlices& slices, const LocalPods& local,
                                 const Site& site);

}  // namespace fairlead::services
