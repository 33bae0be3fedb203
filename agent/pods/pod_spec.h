// SPDX-License-Identifier: Apache-2.0
// Questions to a pod's spec. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace k8s {
class Container;
class Pod;
class PodSpec;
}  // namespace k8s

namespace fairlead::pods {

// The container or init container of that name, or nullptr.
const k8s::Container* find_container(const k8s::PodSpec& spec, const std::string& name);
bool is_init_container(const k8s::PodSpec& spec, const std::string& name);
// An init container with restartPolicy Always: it goes on beside the others, whatever the pod's restart policy.
bool is_sidecar(const k8s::PodSpec& spec, const std::string& name);
// The containers that run as long as the pod: sidecars in their order, then the others.
std::vector<const k8s::Container*> lasting_containers(const k8s::PodSpec& spec);

// "spec.containers{web}": where an event of that container points.
std::string container_path(const k8s::PodSpec& spec, const std::string& name);

// The user whom all containers run as, where the spec says one and the same for each.
std::optional<std::int64_t> common_user(const k8s::PodSpec& spec);

}  // namespace fairlead::pods
