// SPDX-License-Identifier: Apache-2.0
// From the cluster's nodes to what this node must have so that packets reach them. Pure: no I/O.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/mac.h"
#include "agent/datapath/node_paths.h"
#include "agent/model/rows.h"
#include "agent/netlink/socket.h"

namespace fairlead::routing {

// How our own routes are told from others' (rtm_protocol and metric; `ip route` shows "proto 70 metric 70").
inline constexpr std::uint8_t kRouteProtocol = 70;
inline constexpr std::uint32_t kRouteMetric = 70;
// The tunnel's device and what it says of itself: one of this name without this alias is somebody else's.
inline constexpr auto kTunnelDevice = "fl_vxlan";
inline constexpr auto kTunnelAlias = "fairlead-vxlan";

struct TunnelSettings {
  std::uint16_t port = 8472;
  std::uint32_t vni = 1;
};

struct Settings {
  std::string node;                      // this one's name
  std::vector<IpAddress> node_ips;       // at most one of a family, the first is primary
  std::optional<TunnelSettings> tunnel;  // none: the network routes pods' addresses
  std::vector<std::string> uplinks;      // devices; none: those that carry node_ips
  bool masquerade = true;
  std::vector<Cidr> non_masquerade;  // destinations that see pods' own addresses
  std::uint16_t first_port = 61000;  // of masqueraded connections
  std::uint16_t last_port = 65535;
};

// What there is in the kernel.
struct Facts {
  std::vector<netlink::Link> links;
  std::vector<netlink::InterfaceAddress> addresses;
};

// How a node's pods are reached.
enum class Way { kOwn, kNative, kTunnel, kNone };
std::string_view to_string(Way way);

struct NodePlan {
  std::vector<IpAddress> addresses;
  std::vector<Cidr> pod_cidrs;
  Way way = Way::kNone;
  std::string condition;  // why not (all of) its pods are reached through us; empty: they are
  auto operator<=>(const NodePlan&) const = default;
};

struct Plan {
  std::map<Cidr, netlink::Route> routes;
  std::map<IpAddress, Mac> neighbours;                // on the tunnel's device
  std::map<Mac, IpAddress> peers;                     // of the tunnel's device: MAC → address in the underlay
  std::optional<netlink::VxlanSpec> device;           // to be there
  std::optional<IpAddress> device_address;            // IPv4's on it, as /32
  std::optional<datapath::NodePaths::Tunnel> tunnel;  // once it is
  std::map<Cidr, datapath::Path> paths;
  datapath::Masquerade masquerade;
  std::map<std::uint32_t, std::string> uplinks;  // ifindex → name
  bool ipv6 = false;                             // this node forwards IPv6
  std::map<std::string, NodePlan> nodes;         // by name
  std::map<std::string, std::string> failing;    // object → why it cannot be had
};

using Nodes = std::map<std::string, std::shared_ptr<const model::Node>>;  // by name

// Ranges that overlap another node's are refused, this node's own first, then by name.
//
// Native: a node's ranges are routed by its address of that family, where a device of ours is connected to that
// address's network; what lies behind routers is theirs to carry. Tunnel: all of them go through the tunnel's device,
// whose peers are neighbours under the first address of each range; a node that has no address of the family that the
// tunnel speaks, this node's primary one, is not reached. The device has that of this node's IPv4 range: on
// one without any address the kernel's rp_filter takes nothing from nodes themselves, however loose it is.
Plan plan_paths(const Nodes& nodes, const Settings& settings, const Facts& facts);

// The devices that lead out of this node, ifindex → name. `failing` gets what was named or needed and is not there.
std::map<std::uint32_t, std::string> find_uplinks(const Settings& settings, const Facts& facts,
                                                  std::map<std::string, std::string>& failing);

// How large a pod's packets may be: as the smallest of the uplinks lets them be, less the tunnel's headers (50 bytes,
// 70 where nodes speak IPv6 to each other).
std::uint32_t pod_mtu(const Settings& settings, const Facts& facts);

// The MAC of the tunnel's device of the node with this address: every node knows every other's without asking. Programs
// make it too (bpf/lib/tunnel.h). IPv4 addresses have one each; IPv6 ones share one with a chance of 1 : 2^32.
Mac tunnel_mac(const IpAddress& node);

}  // namespace fairlead::routing
