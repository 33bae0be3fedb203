// SPDX-License-Identifier: Apache-2.0
// Rules of pods that pod.cc puts together: references to a pod's own facts, hooks, and what stands in its spec beside
// containers and volumes.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "agent/kube/validate/checker.h"

namespace k8s {
class Container;
class ObjectFieldSelector;
class PodSpec;
class ProjectedVolumeSource;
class ResourceFieldSelector;
}  // namespace k8s

namespace fairlead::kube {

// Where a reference stands: which of a pod's fields it may name.
enum class RefersFrom { kEnv, kVolume };
void check_field_ref(Checker& check, const std::string& path, const k8s::ObjectFieldSelector& ref, RefersFrom from);
void check_resource_ref(Checker& check, const std::string& path, const k8s::ResourceFieldSelector& ref,
                        RefersFrom from);

// `path`: the volume's.
void check_projected(Checker& check, const std::string& path, const k8s::PodSpec& spec,
                     const k8s::ProjectedVolumeSource& projected);
// Hooks, headers of HTTP probes, mount propagation, privileges. `path`: the container's.
void check_container_rules(Checker& check, const std::string& path, const k8s::PodSpec& spec,
                           const k8s::Container& container);
// dnsPolicy, dnsConfig, hostname, subdomain, hostnameOverride, hostAliases.
void check_names(Checker& check, const k8s::PodSpec& spec);
// Host ports, selectors, tolerations, security context, gates.
void check_spec_rules(Checker& check, const k8s::PodSpec& spec);

}  // namespace fairlead::kube
