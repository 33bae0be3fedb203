// SPDX-License-Identifier: Apache-2.0
// What to do next for one pod.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/pods/pod_spec.h"
#include "agent/pods/view.h"

namespace fairlead::pods {

enum class Do {
  kSetUpVolumes,
  kCreateSandbox,    // attempt; id: the dead one to stop first, so that its address is free
  kCreateContainer,  // name, attempt, streak: see to its image, create and start it
  kStartContainer,   // name, id: it was created before
  kKillContainer,    // name, id, grace_s, reason
  kStopSandbox,      // id
  kTearDown,         // volumes, cgroups and logs
  kRemoveContainer,  // id
  kRemoveSandbox,    // id
};

struct Action {
  Do what = Do::kSetUpVolumes;
  std::string name = {};
  std::string id = {};
  std::uint32_t attempt = 0;
  unsigned streak = 0;
  std::int64_t grace_s = 0;
  std::string reason = {};
  auto operator<=>(const Action&) const = default;
};

struct Plan {
  std::vector<Action> actions;   // in order; whoever carries out one plans again after it
  std::optional<WallTime> wake;  // the earliest time at which waiting alone changes the plan
  bool gone = false;             // the pod is to go, and nothing of it is left but what the runtime never lets go
};

// kubelet's rules: init containers one after another, sidecars among them, which end after the others and in the
// reverse order, restart policy, crash back-off (at once, then 10 s doubling to
// 300 s, forgotten after a run of 10 minutes), a new sandbox for a dead one, no way back from a terminal phase. Pure.
Plan plan_pod_actions(const k8s::PodSpec& spec, const PodRuntimeView& view, const PodHistory& history, WallTime now);

// How far a pod is, as the plan and the status both see it.
enum class Outcome { kOpen, kSucceeded, kFailed };
Outcome pod_outcome(const k8s::PodSpec& spec, const PodRuntimeView& view, const PodHistory& history);

// Every init container is done, and every sidecar has started; or an app container has run in the current sandbox.
bool initialized(const k8s::PodSpec& spec, const PodRuntimeView& view, const PodHistory& history);

// It runs, and its startup probe, if there is one, has succeeded.
bool has_started(const k8s::Container& container, const ContainerView& view, const PodHistory& history);

// Its start was cut off with its caller's connection, as when an agent is killed: the runtime calls it exited, but
// nothing ran. It is removed and made again, as if it had not been; one that the runtime does not let go holds up
// nothing.
bool never_started(const ContainerView& container);

// Whether the restart policy, of a sidecar its own, lets this exited container run again.
bool restarts(const k8s::PodSpec& spec, const ContainerView& exited);

// When an exited container may run again at the earliest.
WallTime restart_time(const ContainerView& exited);
Duration crash_delay(const ContainerView& exited);
// The key in PodHistory::failures of an action that ends or removes something; empty for one that begins something.
std::string end_key(const Action& action);
// The delay before try n + 1 after n failures of anything else, by its key in PodHistory::failures: a container waits
// ever longer, as kubelet pulls images; sandbox and volumes always as long, since what they wait for may come at any
// time; an end waits but a moment at first.
Duration retry_delay(std::string_view what, unsigned failures);

// Of name and image alone, so that an upgrade of the agent never restarts a container. Hexadecimal.
std::string container_hash(const k8s::Container& container);

}  // namespace fairlead::pods
