// SPDX-License-Identifier: Apache-2.0
// Pure: the Node and Lease objects of this node, from facts and the present moment, as JSON the API server takes.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/ip.h"
#include "agent/node/facts.h"

namespace fairlead::node {

using Json = nlohmann::json;

struct Identity {
  std::string name;
  std::vector<IpAddress> addresses;
  std::string runtime_version;  // "containerd://1.6.20"
  std::string agent_version;    // "v0.1.0"
  unsigned max_pods = 110;
};

// Whether the node is ready to run pods, and why not.
struct Health {
  bool ready = true;
  std::string reason = "KubeletReady";
  std::string message = "fairlead-agent is posting ready status";
  bool operator==(const Health&) const = default;
};

// Node for POST /api/v1/nodes: labels for scheduling; status is sent apart.
Json node_object(const Identity& identity, const MachineFacts& facts);
// Body of a strategic-merge PATCH of the Node's status. `since`: when Ready last changed.
Json node_status_patch(const Identity& identity, const MachineFacts& facts, const Health& health, WallTime now,
                       WallTime since);
// Lease in kube-node-lease, owned by the Node `node_uid`.
Json lease_object(const std::string& node_name, const std::string& node_uid, WallTime now,
                  const std::string& resource_version);

}  // namespace fairlead::node
