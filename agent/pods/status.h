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
  const std::map<std::string, bool>& ready;  // container id → what its readiness probe says; without entry: no probe
  const std::vector<IpAddress>& node_ips;
  const k8s::PodStatus* last = nullptr;  // the status before, whose transition times and start time go on
  WallTime now;
};

// Pure. Times change only with what they tell, so equal input but for `now` gives an equal status.
k8s::PodStatus compute_status(const StatusInput& input);

// "Guaranteed", "Burstable" or "BestEffort", from requests and limits of cpu and memory over all containers.
std::string qos_class(const k8s::PodSpec& spec);

// Whether condition `type` is "True".
bool condition(const k8s::PodStatus& status, const std::string& type);

}  // namespace fairlead::pods
