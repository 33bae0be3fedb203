// SPDX-License-Identifier: Apache-2.0
// What the maps shall say about one host port: a Service of one endpoint, on addresses of the node. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/datapath/load_balancer.h"
#include "agent/model/rows.h"

namespace fairlead::services {

// Keys of host ports among those of Services, which have no colon.
inline constexpr auto kHostPortPrefix = "hostPort:";

// By name: the key and the family, "hostPort:0abc/eth0:*:8080/TCP/4". `node_ips`: where the row names no address, it is
// served on those of the pod's families, and on their loopback.
std::map<std::string, datapath::ServiceEntry> compute_host_port(const std::string& key, const model::HostPort& row,
                                                                const std::vector<IpAddress>& node_ips);
// The key that an entry's name was made of.
std::string host_port_key(const std::string& entry_name);

}  // namespace fairlead::services
