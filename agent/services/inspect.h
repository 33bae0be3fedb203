// SPDX-License-Identifier: Apache-2.0
// What the services domain tells about itself. Field names are a contract: fairleadctl and tests read them.
//
//   service.list  {namespace?}        → [{namespace, name, type, headless, cluster_ips, ports: [{name, port, protocol,
//                                        target_port, node_port}], backends, affinity_timeout_seconds, error}]
//   service.get   {namespace, name}   → the same, and {uid, selector, publish_not_ready}, and in each port
//                                        backends: [{address, port, ready, serving, terminating, pod_uid, state}]
//   backend.list  {namespace?, name?} → [{namespace, service, service_port, protocol, port_name, address, port, ready,
//                                        serving, terminating, pod_uid, state}]
//
// `backends` in service.list counts those in the maps. `error` is "" or why the Service is not in force. `state` is
// "active" (gets new connections), "terminating" or "not-ready". `namespace` defaults to "default" in service.get only.
#pragma once

#include <map>
#include <string>

#include "agent/base/local_protocol.h"
#include "agent/services/index.h"

namespace fairlead::services {

// Answers the operations above; kNotFound for an unknown operation or Service, kInvalid for wrong arguments. Pure.
Result<Json> answer(const Inspect& request, const ServiceIndex& index, const std::map<std::string, Error>& failing);

}  // namespace fairlead::services
