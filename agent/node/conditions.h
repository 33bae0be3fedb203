// SPDX-License-Identifier: Apache-2.0
// Pure: the conditions of a Node: what is so, why, and since when, with kubelet's types and reasons.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/result.h"

namespace fairlead::node {

using Json = nlohmann::json;

// Whether the node is ready to run pods, and why not.
struct Health {
  bool ready = true;
  std::string reason = "KubeletReady";
  std::string message = "fairlead-agent is posting ready status";
  bool operator==(const Health&) const = default;
};

// What of the machine runs short, by kubelet's default limits.
struct Pressures {
  bool memory = false;
  bool disk = false;
  bool pids = false;
  bool operator==(const Pressures&) const = default;
};

struct Condition {
  std::string type;    // MemoryPressure, DiskPressure, PIDPressure, Ready
  std::string status;  // True, False; Unknown as others may have written it
  std::string reason;
  std::string message;
  WallTime since{};  // when `status` last changed
  bool operator==(const Condition&) const = default;
};

// Ready is the last one, as everywhere. `before`: the conditions last told; what did not change keeps its time.
std::vector<Condition> conditions_of(const Health& health, const Pressures& pressures,
                                     const std::vector<Condition>& before, WallTime now);

// Those of a Node object: what an earlier agent told.
std::vector<Condition> read_conditions(const Json& node);

Json to_json(const Condition& condition, WallTime heartbeat);

}  // namespace fairlead::node
