// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/pod_spec.h"

#include <k8s/pod.pb.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>

namespace fairlead::pods {
namespace {

const k8s::Container* find_in(const google::protobuf::RepeatedPtrField<k8s::Container>& list, const std::string& name) {
  const auto at = std::ranges::find(list, name, [](const k8s::Container& one) { return one.name(); });
  return at == list.end() ? nullptr : &*at;
}

}  // namespace

const k8s::Container* find_container(const k8s::PodSpec& spec, const std::string& name) {
  const k8s::Container* found = find_in(spec.containers(), name);
  return found != nullptr ? found : find_in(spec.initcontainers(), name);
}

bool is_init_container(const k8s::PodSpec& spec, const std::string& name) {
  return find_in(spec.initcontainers(), name) != nullptr;
}

bool is_sidecar(const k8s::PodSpec& spec, const std::string& name) {
  const k8s::Container* found = find_in(spec.initcontainers(), name);
  return found != nullptr && found->restartpolicy() == "Always";
}

std::vector<const k8s::Container*> lasting_containers(const k8s::PodSpec& spec) {
  std::vector<const k8s::Container*> all;
  for (const auto& container : spec.initcontainers()) {
    if (container.restartpolicy() == "Always") all.push_back(&container);
  }
  for (const auto& container : spec.containers()) all.push_back(&container);
  return all;
}

std::string container_path(const k8s::PodSpec& spec, const std::string& name) {
  return fmt::format("spec.{}{{{}}}", is_init_container(spec, name) ? "initContainers" : "containers", name);
}

std::optional<std::int64_t> common_user(const k8s::PodSpec& spec) {
  std::optional<std::int64_t> common;
  for (const auto* containers : {&spec.initcontainers(), &spec.containers()}) {
    for (const auto& container : *containers) {
      const bool own = container.securitycontext().has_runasuser();
      if (!own && !spec.securitycontext().has_runasuser()) return {};
      const std::int64_t user = own ? container.securitycontext().runasuser() : spec.securitycontext().runasuser();
      if (common.value_or(user) != user) return {};
      common = user;
    }
  }
  return common;
}

}  // namespace fairlead::pods
