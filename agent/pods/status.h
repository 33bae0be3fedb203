// SPDX-License-Identifier: Apache-2.0
// A pod's status in kubelet's words.
#pragma once

#include <k8s/pod.pb.h>

#include <map>
#include <string>
#include <vector>

#include "agent/pods/view.h"

namespace fairlead::pods {

struct StatusInput {
  const k8s::Pod& pod;
  const PodRuntimeView& view;
  const PodHistory& history;
  // Container id → what its readiness probe says; without entry: it has said nothing yet.
  const std::map<std::string, bool>& ready;
  const std::vector<IpAddress>& node_ips;
  // The status before, this agent's or as the API server keeps it: its times go on, and what the runtime has lost since
  // is told from it.
  const k8s::PodStatus* last = nullptr;
  std::string runtime_name;  // the scheme of container ids: "containerd"
  WallTime now;
};

// Pure. Times change only with what they tell, so equal input but for `now` gives an equal status. Conditions that
// others set, readiness gates among them, count for Ready (as the pod's object shows them) and are not told again.
k8s::PodStatus compute_status(const StatusInput& input);

// "Guaranteed", "Burstable" or "BestEffort", from requests and limits of cpu and memory over all containers.
std::string qos_class(const k8s::PodSpec& spec);

// Whether condition `type` is "True".
bool condition(const k8s::PodStatus& status, const std::string& type);

}  // namespace fairlead::pods
