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

// One endpoint of one Service port, with local truth applied.
struct PlannedBackend {
  datapath::Backend backend;
  bool ready = false;
  bool serving = false;
  bool terminating = false;
  bool active = false;     // gets new connections
  std::string target_uid;  // of the pod behind it, or empty
  bool operator==(const PlannedBackend&) const = default;
};

struct ServicePlan {
  // "namespace/service:port/TCP/4" → entry. The name holds the Service port's number, which with the protocol is
  // unique.
  std::map<std::string, datapath::ServiceEntry> entries;
  std::vector<std::string> unsupported;  // names of entries left out: SCTP, which socket load balancing cannot carry
  bool operator==(const ServicePlan&) const = default;
};

// Every endpoint that the slices list for `port` in `family`, sorted by address and port, each once: of duplicates the
// one that is most fit to serve. Active are the ready ones; where there are none, those that serve while they
// terminate.
//
// Local truth is joined by target_uid and never adds an endpoint: dead, terminating or not ready always wins; ready
// wins unless the slice says that the endpoint terminates. With publishNotReadyAddresses only a dead pod is taken out.
std::vector<PlannedBackend> compute_backends(const model::Service& service, const model::ServicePort& port,
                                             Family family, const EndpointSlices& slices, const LocalPods& local);

// Headless and ExternalName Services, and those without an address, have no entries. A port without active endpoints
// has an entry without backends: connects to it are refused.
ServicePlan compute_service_plan(const model::Service& service, const EndpointSlices& slices, const LocalPods& local);

}  // namespace fairlead::services
