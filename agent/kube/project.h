// SPDX-License-Identifier: Apache-2.0
// API messages to model rows: what a domain needs of an object, and no more. Pure; for manifests and the API edge
// alike. The input is as the API server would hold it: defaulted and valid. An error names the field.
#pragma once

#include <memory>
#include <string>

#include "agent/base/result.h"
#include "agent/model/rows.h"

namespace k8s {
class ConfigMap;
class EndpointSlice;
class Namespace;
class NetworkPolicy;
class Node;
class Pod;
class Secret;
class Service;
}  // namespace k8s

namespace fairlead::kube {

Result<model::Service> project_service(const k8s::Service& service);
// Of an endpoint's addresses only the first counts, as the API says. A slice of addressType FQDN has no endpoints.
Result<model::EndpointSlice> project_endpoint_slice(const k8s::EndpointSlice& slice);
model::Pod project_pod(std::shared_ptr<const k8s::Pod> pod, std::string source);
model::ConfigData project_config_map(const k8s::ConfigMap& config);
model::ConfigData project_secret(const k8s::Secret& secret);
Result<model::Node> project_node(const k8s::Node& node);
model::Namespace project_namespace(const k8s::Namespace& name_space);
// A pod as its peers meet it; without addresses once it has given them back.
model::PeerPod project_peer_pod(const k8s::Pod& pod);
// A part that cannot be read allows nothing and is told in `unread`; only a policy of which we cannot tell whom it
// selects is an error.
Result<model::NetworkPolicy> project_network_policy(const k8s::NetworkPolicy& policy);

}  // namespace fairlead::kube
