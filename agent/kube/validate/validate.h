// SPDX-License-Identifier: Apache-2.0
// The API's validation, for objects that no API server has seen. Pure; takes defaulted objects, answers every error
// with the field's path and value as the API words them. Nothing: the object is valid.
#pragma once

#include "agent/kube/codec/field_error.h"

namespace k8s {
class ConfigMap;
class EndpointSlice;
class Namespace;
class Node;
class NetworkPolicy;
class Pod;
class Secret;
class Service;
}  // namespace k8s

namespace fairlead::kube {

FieldErrors validate_pod(const k8s::Pod& pod);
FieldErrors validate_service(const k8s::Service& service);
FieldErrors validate_endpoint_slice(const k8s::EndpointSlice& slice);
FieldErrors validate_config_map(const k8s::ConfigMap& config);
FieldErrors validate_secret(const k8s::Secret& secret);
FieldErrors validate_namespace(const k8s::Namespace& name_space);
// Of the status only the addresses, which say where the node is.
FieldErrors validate_node(const k8s::Node& node);
FieldErrors validate_network_policy(const k8s::NetworkPolicy& policy);

}  // namespace fairlead::kube
