// SPDX-License-Identifier: Apache-2.0
// Pods and what a runtime tells of them, as short values.
#pragma once

#include <k8s/pod.pb.h>

#include <string>
#include <vector>

#include "agent/pods/plan.h"

namespace fairlead::pods {

inline WallTime at(std::int64_t seconds) {
  return WallTime(std::chrono::seconds(1'000'000 + seconds));
}

inline k8s::Container make_container(const std::string& name) {
  k8s::Container container;
  container.set_name(name);
  container.set_image("image-" + name);
  return container;
}

inline k8s::Pod make_pod(const std::string& policy = "Always", const std::vector<std::string>& containers = {"web"},
                         const std::vector<std::string>& inits = {}) {
  k8s::Pod pod;
  pod.mutable_metadata()->set_name("p");
  pod.mutable_metadata()->set_namespace_("ns");
  pod.mutable_metadata()->set_uid("u1");
  pod.mutable_spec()->set_restartpolicy(policy);
  pod.mutable_spec()->set_terminationgraceperiodseconds(7);
  for (const auto& name : containers) *pod.mutable_spec()->add_containers() = make_container(name);
  for (const auto& name : inits) *pod.mutable_spec()->add_initcontainers() = make_container(name);
  return pod;
}

inline SandboxView sandbox(std::uint32_t attempt = 0, bool ready = true) {
  return {.id = "s" + std::to_string(attempt), .attempt = attempt, .ready = ready, .created = at(0), .ips = {}};
}

// Started at 0; an exited one ended at `finished`.
inline ContainerView container(const std::string& name, RunState state, std::uint32_t attempt = 0, int exit_code = 0,
                               std::int64_t finished = 5, unsigned streak = 0, std::uint32_t in_sandbox = 0) {
  ContainerView view;
  view.id = name + std::to_string(attempt);
  view.name = name;
  view.sandbox_id = "s" + std::to_string(in_sandbox);
  view.attempt = attempt;
  view.state = state;
  view.hash = container_hash(make_container(name));
  view.streak = streak;
  view.created = at(0);
  if (state != RunState::kCreated) view.started = at(0);
  if (state == RunState::kExited) view.finished = at(finished);
  view.exit_code = exit_code;
  return view;
}

}  // namespace fairlead::pods
