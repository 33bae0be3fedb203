// SPDX-License-Identifier: Apache-2.0
// Settings of the paths to other nodes and to the world.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/ip.h"

namespace fairlead::config {

enum class Tunnel { kNone, kVxlan };

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;  // included
  auto operator<=>(const PortRange&) const = default;
};

struct PathSettings {
  Tunnel tunnel = Tunnel::kNone;
  std::uint32_t vxlan_port = 8472;  // UDP, of every node
  std::uint32_t vxlan_vni = 1;
  std::vector<std::string> uplinks;  // devices; empty: those that carry the node's addresses
  bool masquerade = true;
  std::vector<Cidr> non_masquerade_cidrs;
  PortRange masquerade_ports{61000, 65535};  // apart from ip_local_port_range and NodePorts
  bool operator==(const PathSettings&) const = default;
};

}  // namespace fairlead::config
