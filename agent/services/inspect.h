// SPDX-License-Identifier: Apache-2.0
// What the services domain tells about itself. Field names are a contract: fairleadctl and tests read them.
//
//   service.list  {namespace?}        → [{namespace, name, type, headless, other_proxy, cluster_ips, ports: [{name,
//   port,
//                                        protocol, target_port, node_port}], backends, affinity_timeout_seconds,
//                                        balancing, internal_traffic_policy, traffic_distribution, error}]
//   service.get   {namespace, name}   → the same, and {uid, selector, publish_not_ready, zone_weights, unread}, and in
//                                        each port {hits, backends: [{address, port, ready, serving, terminating,
//                                        pod_uid, node, zone, weight, state, hits, open}]}
//   backend.list  {namespace?, name?} → [{namespace, service, service_port, protocol, port_name, and as above}]
//
// With `other_proxy`, by label, another proxy serves it. `backends` in service.list counts those in the maps. `error`
// is "" or why the Service is not in force; `unread` says which of our annotations, and which ways in from outside, are
// without effect. `state` is "active" (gets new connections), "terminating", "not-ready", or "unused" (ready, but
// traffic policy, hints or weights prefer others). `hits` are connections since the port or the backend has been in the
// maps; `open` those to the backend that have not been seen to end. `namespace` defaults to "default" in service.get
// only.
#pragma once

#include <map>
#include <string>

#include "agent/base/local_protocol.h"
#include "agent/services/index.h"

namespace fairlead::services {

// What the answers are made of.
struct Known {
  const ServiceIndex& index;
  const datapath::LoadBalancer& balancer;  // for its counters
  const Site& site;
  std::map<std::string, Error> failing;  // by Service key
};

// Answers the operations above; kNotFound for an unknown operation or Service, kInvalid for wrong arguments.
Result<Json> answer(const Inspect& request, const Known& known);

}  // namespace fairlead::services
