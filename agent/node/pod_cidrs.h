// SPDX-License-Identifier: Apache-2.0
// The pod CIDRs that the cluster gave this node.
#pragma once

#include <vector>

#include "agent/base/clock.h"
#include "agent/base/ip.h"
#include "agent/kube/api/kubeconfig.h"
#include "agent/node/objects.h"

namespace fairlead::node {

// Asks for the Node `name` each half second until its spec names podCIDRs. `node`: what to register where there is no
// such Node yet; null: somebody else registers it. Blocks the calling thread, on a loop of its own: for before the
// agent's threads start. kTimeout after `patience`, with what the server last said.
Result<std::vector<Cidr>> wait_for_pod_cidrs(const kube::ClusterAccess& access, const std::string& name,
                                             const Json& node, Duration patience);

}  // namespace fairlead::node
