// SPDX-License-Identifier: Apache-2.0
// netlink::Socket: the links, addresses, routes and neighbours of one network namespace.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/mac.h"
#include "agent/base/result.h"
#include "agent/netlink/conversation.h"

namespace fairlead::netlink {

struct Link {
  std::uint32_t ifindex = 0;
  std::string name;
  std::string alias;
  Mac mac{};
  std::uint32_t mtu = 0;
  bool up = false;   // as it was asked for; says nothing of the carrier
  std::string kind;  // "veth", "vxlan", …; empty: hardware
  std::uint32_t group = 0;
  std::uint32_t peer_ifindex = 0;  // of a veth's other end, in its namespace
  // Of a VXLAN device, or 0: its UDP port and VNI. `external`: each packet says where it goes and by which VNI.
  std::uint16_t vxlan_port = 0;
  std::uint32_t vxlan_vni = 0;
  bool vxlan_external = false;
  std::optional<IpAddress> vxlan_local{};  // whose family the tunnel speaks; none: IPv4
};

struct VethSpec {
  std::string name;
  Mac mac{};
  std::string peer_name;
  Mac peer_mac{};
  int peer_netns = -1;  // open namespace descriptor, the caller's; the peer is born in there
  std::uint32_t mtu = 0;
};

struct VethEnds {
  std::uint32_t ifindex = 0;       // of the end on this side
  std::uint32_t peer_ifindex = 0;  // of the other, in its namespace
};

struct VxlanSpec {
  std::string name;
  Mac mac{};
  std::uint32_t mtu = 0;
  std::uint16_t port = 0;  // UDP, here and at the other nodes
  std::uint32_t vni = 0;
  std::optional<IpAddress> local{};  // where the tunnel speaks IPv6: its own end; none: IPv4, by whichever address
  auto operator<=>(const VxlanSpec&) const = default;
};

struct InterfaceAddress {
  std::uint32_t ifindex = 0;
  IpAddress address;
  unsigned prefix = 0;  // of the network that the device is connected to by it
  auto operator<=>(const InterfaceAddress&) const = default;
};

inline constexpr std::uint8_t kStaticProtocol = 4;  // RTPROT_STATIC
inline constexpr std::uint32_t kLoopback = 1;       // ifindex of "lo", the first device of every namespace

struct Route {
  Cidr destination;
  std::uint32_t ifindex = 0;
  std::optional<IpAddress> gateway;         // taken as reachable on the link, whatever the addresses there say
  std::optional<IpAddress> source;          // preferred source address of what the host itself sends
  std::uint8_t protocol = kStaticProtocol;  // who set it: what tells one's own routes from others'
  std::uint32_t metric = 0;                 // 0: the kernel's (IPv4 0, IPv6 1024)
  auto operator<=>(const Route&) const = default;
};

struct Neighbour {
  IpAddress address;
  Mac mac{};
  auto operator<=>(const Neighbour&) const = default;
};

// One rtnetlink socket. It stays in the namespace of the thread that opened it, whichever thread uses it later: so a
// loop works inside a pod's namespace without ever being moved (netns.h opens such a socket).
// Owner and thread: one module on its loop. Each call is one bounded exchange with the kernel (0.01–0.3 ms; deleting a
// veth 30–60 ms). Errors name device and operation and carry errno; what is named by ifindex is "#7" in them.
class Socket {
 public:
  static Result<Socket> open();

  // Both ends down. kExists: either name is taken.
  Result<VethEnds> create_veth(const VethSpec& spec);
  // Down; carries to the peers that it is told of (set_peer), learns nothing, and gives itself no link-local address.
  // Packets within have checksums of their own (RFC 7348, 4.1), so that over IPv4 the outer one is left out. kExists:
  // the name is taken, or the VNI on that port. Returns its ifindex.
  Result<std::uint32_t> create_vxlan(const VxlanSpec& spec);
  Result<> set_mtu(std::uint32_t ifindex, std::uint32_t mtu);
  Result<> set_mac(std::uint32_t ifindex, const Mac& mac);
  // Names who owns the device; at most 255 bytes.
  Result<> set_alias(std::uint32_t ifindex, const std::string& alias);
  Result<> set_up(std::uint32_t ifindex);
  // Deleting what is not there succeeds, here and below.
  Result<> delete_link(std::uint32_t ifindex);
  // All at once, which takes the kernel hardly longer than one: they are put into a device group of their own for that.
  Result<> delete_links(const std::vector<std::uint32_t>& ifindexes);

  Result<Link> find_link(const std::string& name);  // kNotFound
  Result<std::vector<Link>> links();

  // As /32 or /128, usable at once (no duplicate address detection). Adding what is there succeeds, here and below.
  Result<> add_address(std::uint32_t ifindex, const IpAddress& address);
  Result<> erase_address(std::uint32_t ifindex, const InterfaceAddress& address);
  Result<std::vector<IpAddress>> addresses(std::uint32_t ifindex);
  // Of all devices.
  Result<std::vector<InterfaceAddress>> interface_addresses();

  // Adds or replaces. The device must be up.
  Result<> set_route(const Route& route);
  // Destinations of the main table's routes through the device.
  Result<std::vector<Cidr>> routes(std::uint32_t ifindex);
  // The main table's routes that `protocol` set.
  Result<std::vector<Route>> routes_of(std::uint8_t protocol);
  // Exactly this one; erasing what is not there succeeds, here and below.
  Result<> erase_route(const Route& route);

  // Adds or replaces a permanent neighbour.
  Result<> set_neighbour(std::uint32_t ifindex, const IpAddress& address, const Mac& mac);
  // The permanent ones of a device.
  Result<std::vector<Neighbour>> neighbours(std::uint32_t ifindex);
  Result<> erase_neighbour(std::uint32_t ifindex, const IpAddress& address);

  // A VXLAN device's peers: where frames for a MAC go, here as the neighbour that has both. As with neighbours.
  Result<> set_peer(std::uint32_t ifindex, const Neighbour& peer);
  Result<std::vector<Neighbour>> peers(std::uint32_t ifindex);
  Result<> erase_peer(std::uint32_t ifindex, const Neighbour& peer);

  int fd() const { return kernel_.fd(); }
  // For what else rtnetlink knows (token_bucket.h).
  Conversation& conversation() { return kernel_; }

 private:
  explicit Socket(Conversation kernel) : kernel_(std::move(kernel)) {}
  Conversation kernel_;
};

}  // namespace fairlead::netlink
