// SPDX-License-Identifier: Apache-2.0
// The API's defaults, for objects that no API server has seen. Pure: each fills what is unset and changes nothing else.
#pragma once

#include <string>
#include <string_view>

namespace k8s {
class EndpointSlice;
class Node;
class NetworkPolicy;
class ObjectMeta;
class Pod;
class Secret;
class Service;
}  // namespace k8s

namespace fairlead::kube {

void default_pod(k8s::Pod& pod);
void default_service(k8s::Service& service);
void default_endpoint_slice(k8s::EndpointSlice& slice);
// podCIDR is the first of podCIDRs: either names the other.
void default_node(k8s::Node& node);
// policyTypes: Ingress, and Egress where there are rules for it.
void default_network_policy(k8s::NetworkPolicy& policy);
// Also moves stringData into data, as the API does on write.
void default_secret(k8s::Secret& secret);

// Namespace "default" where there is none; drops what only a server may write (uid, resourceVersion, managedFields, …).
void default_manifest_meta(k8s::ObjectMeta& meta);

// "Always" for an image without tag and digest or with tag "latest", else "IfNotPresent".
std::string default_pull_policy(std::string_view image);

}  // namespace fairlead::kube
