// SPDX-License-Identifier: Apache-2.0
// Pure: the Node and Lease objects of this node, from facts and the present moment, as JSON the API server takes.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/ip.h"
#include "agent/node/conditions.h"
#include "agent/node/facts.h"

namespace fairlead::node {

struct Identity {
  std::string name;
  std::vector<IpAddress> addresses;
  std::string agent_version;  // "v0.1.0"
  unsigned max_pods = 110;
  std::map<std::string, std::string> labels = {};  // beyond those that every node has
};

// What the runtime tells of itself.
struct RuntimeFacts {
  std::string version = "Unknown";  // "containerd://1.6.20"
  Json handlers = Json::array();    // status.runtimeHandlers
  Json features;                    // status.features; null: the runtime does not say
  Json images = Json::array();      // status.images
};

// What is left for pods, in bytes: less what eviction keeps back, and huge pages.
std::uint64_t allocatable_memory(const MachineFacts& facts);
std::uint64_t allocatable_disk(const MachineFacts& facts);

// Node for POST /api/v1/nodes: labels for scheduling; status is sent apart.
Json node_object(const Identity& identity, const MachineFacts& facts);
// The labels that `node` lacks or has otherwise; null: it has all.
Json missing_labels(const Json& node, const Identity& identity, const MachineFacts& facts);
// status, less conditions: the same bytes while nothing changed.
Json node_status(const Identity& identity, const MachineFacts& facts, const RuntimeFacts& runtime);
// Lease in kube-node-lease, owned by the Node `node_uid`.
Json lease_object(const std::string& node_name, const std::string& node_uid, WallTime now,
                  const std::string& resource_version);

}  // namespace fairlead::node
