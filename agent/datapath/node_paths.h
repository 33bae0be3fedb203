// SPDX-License-Identifier: Apache-2.0
// NodePaths: how packets of pods leave this node and come back to it, as the BPF programs read it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"

namespace fairlead::datapath {

// What is special about a destination. The longest prefix counts.
enum class PathKind {
  kNode,    // another node's own address, or pods of another node: never masqueraded; through the tunnel where one is
            // used
  kDirect,  // never masqueraded, and nothing else (nonMasqueradeCIDRs, this node's own ranges)
};
struct Path {
  PathKind kind = PathKind::kDirect;
  IpAddress node;  // kNode: the node's address in the underlay
  auto operator<=>(const Path&) const = default;
};

// Addresses that stand for pods outside the cluster, at most one of a family, and the ports taken of them.
struct Masquerade {
  std::vector<IpAddress> addresses;  // empty: nothing is masqueraded
  std::uint16_t first_port = 61000;  // apart from ip_local_port_range, NodePorts and hostPorts
  std::uint16_t last_port = 65535;
  auto operator<=>(const Masquerade&) const = default;
};

// Thread: the routing domain's loop. Implemented over pinned maps and links by BpfNodePaths; a fake serves unit tests.
class NodePaths {
 public:
  virtual ~NodePaths() = default;

  virtual Result<> set_path(const Cidr& destination, const Path& path) = 0;
  virtual Result<> erase_path(const Cidr& destination) = 0;  // erasing what is not there succeeds
  virtual Result<std::map<Cidr, Path>> paths() const = 0;

  virtual Result<> set_masquerade(const Masquerade& masquerade) = 0;
  // The VXLAN device that carries what goes to other nodes, and its VNI; nothing: the underlay routes pods' addresses.
  struct Tunnel {
    std::uint32_t ifindex = 0;
    std::uint32_t vni = 0;
    auto operator<=>(const Tunnel&) const = default;
  };
  virtual Result<> set_tunnel(const std::optional<Tunnel>& tunnel) = 0;

  // Puts the programs on a device that leads to other nodes and the world, or on the VXLAN device: by TCX where the
  // kernel has it, else clsact. Repeating it replaces them atomically.
  virtual Result<> attach_uplink(std::uint32_t ifindex) = 0;
  virtual Result<> attach_tunnel(std::uint32_t ifindex) = 0;
  // Whether the device has this load's programs.
  virtual Result<bool> attached(std::uint32_t ifindex) const = 0;
  // Devices that an earlier load left programs on or told the programs of, and that this one has not attached; such as
  // are gone by now, too. `there`: devices to look at, since a clsact filter leaves no other trace.
  virtual Result<std::set<std::uint32_t>> leftovers(const std::vector<std::uint32_t>& there) const = 0;
  // Whichever load's programs, whichever of both kinds; nothing there, or no such device: success.
  virtual Result<> detach(std::uint32_t ifindex) = 0;
};

}  // namespace fairlead::datapath
