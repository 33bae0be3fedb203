// SPDX-License-Identifier: Apache-2.0
#include "agent/routing/plan.h"

#include <algorithm>
#include <cstring>
#include <expected>

#include "bpf/abi/tunnel.h"

namespace fairlead::routing {
namespace {

using datapath::Path;
using datapath::PathKind;

constexpr std::uint32_t kUsualMtu = 1500;
constexpr std::uint32_t kTunnelHeadersV4 = 50;  // IPv4 20, UDP 8, VXLAN 8, Ethernet 14
constexpr std::uint32_t kTunnelHeadersV6 = 70;
constexpr unsigned kLongestNetwork = 30;  // prefix of an IPv4 network whose first address is nobody's

const IpAddress* of_family(const std::vector<IpAddress>& addresses, Family family) {
  const auto at = std::ranges::find(addresses, family, &IpAddress::family);
  return at == addresses.end() ? nullptr : &*at;
}

// Where two nodes speak to each other: in the family of this node's primary address, if the other has it.
const IpAddress* underlay_address(const model::Node& node, const Settings& settings) {
  for (const IpAddress& own : settings.node_ips) {
    if (const IpAddress* address = of_family(node.addresses, own.family())) return address;
  }
  return nullptr;
}

// A plan in the making.
class Planner {
 public:
  Planner(const Settings& settings, const Facts& facts) : settings_(settings), facts_(facts) {}

  Plan plan(const Nodes& nodes) {
    plan_.uplinks = find_uplinks(settings_, facts_, plan_.failing);
    plan_.ipv6 = of_family(settings_.node_ips, Family::kV6) != nullptr;
    if (settings_.tunnel) plan_tunnel();
    if (settings_.masquerade) plan_.masquerade.addresses = settings_.node_ips;
    plan_.masquerade.first_port = settings_.first_port;
    plan_.masquerade.last_port = settings_.last_port;
    for (const Cidr& range : settings_.non_masquerade) direct(range);
    for (const IpAddress& address : settings_.node_ips) direct(Cidr::host(address));
    if (const auto own = nodes.find(settings_.node); own != nodes.end()) add_own(*own->second);
    for (const auto& [name, node] : nodes) {
      if (name != settings_.node) add_other(*node);
    }
    return std::move(plan_);
  }

 private:
  void direct(const Cidr& destination) { plan_.paths[destination] = {PathKind::kDirect, {}}; }

  void plan_tunnel() {
    plan_.device = {.name = kTunnelDevice,
                    .mac = settings_.node_ips.empty() ? Mac{} : tunnel_mac(settings_.node_ips.front()),
                    .mtu = pod_mtu(settings_, facts_),
                    .port = settings_.tunnel->port,
                    .vni = settings_.tunnel->vni};
    if (!speaks_v4()) plan_.device->local = settings_.node_ips.front();
    const auto link = std::ranges::find(facts_.links, kTunnelDevice, &netlink::Link::name);
    if (link != facts_.links.end() && link->alias == kTunnelAlias && link->up) {
      plan_.tunnel = {.ifindex = link->ifindex, .vni = settings_.tunnel->vni};
    }
  }

  // The family that nodes speak to each other through the tunnel.
  bool speaks_v4() const { return settings_.node_ips.empty() || settings_.node_ips.front().is_v4(); }

  // The other node's address that the tunnel reaches it by, or what is in the way.
  std::expected<IpAddress, std::string> underlay_of(const model::Node& node) {
    const IpAddress* address = underlay_address(node, settings_);
    if (address == nullptr) {
      return std::unexpected(node.addresses.empty() ? "it has no InternalIP"
                                                    : "it has no address of this node's families");
    }
    if (!settings_.tunnel) return *address;
    if (address->is_v4() != speaks_v4()) {
      return std::unexpected(
          fmt::format("the tunnel speaks {}, and it has no such address", speaks_v4() ? "IPv4" : "IPv6"));
    }
    const auto [peer, added] = plan_.peers.try_emplace(tunnel_mac(*address), *address);
    if (!added && peer->second != *address) {
      return std::unexpected(
          fmt::format("its tunnel's MAC is that of the node at {}: give one of them another address", peer->second));
    }
    return *address;
  }

  void add_own(const model::Node& node) {
    NodePlan& own = plan_.nodes[node.name];
    own = {settings_.node_ips, node.pod_cidrs, Way::kOwn, {}};
    for (const Cidr& range : node.pod_cidrs) {
      claimed_[range] = node.name;
      direct(range);
      // Of smaller ranges the first address may be a pod's.
      if (settings_.tunnel && range.family() == Family::kV4 && range.prefix() <= kLongestNetwork) {
        plan_.device_address = range.base();
      }
      plan_.ipv6 = plan_.ipv6 || range.family() == Family::kV6;
    }
  }

  void add_other(const model::Node& node) {
    NodePlan& planned = plan_.nodes[node.name];
    planned = {node.addresses, node.pod_cidrs, settings_.tunnel ? Way::kTunnel : Way::kNative, {}};
    const auto underlay = underlay_of(node);
    if (!underlay) {
      planned.way = Way::kNone;
      planned.condition = underlay.error();
      // Packets of pods still must show their own address to its pods: it is a part of the cluster.
      for (const Cidr& range : node.pod_cidrs) direct(range);
      return;
    }
    for (const IpAddress& address : node.addresses) {
      plan_.paths.try_emplace(Cidr::host(address), Path{PathKind::kNode, *underlay});
    }
    for (const Cidr& range : node.pod_cidrs) {
      if (const std::string other = claim(range, node.name); !other.empty()) {
        plan_.failing["node " + node.name] = fmt::format("its podCIDR {} overlaps one of node {}", range, other);
        planned.condition = fmt::format("podCIDR {} overlaps one of node {}", range, other);
        continue;
      }
      if (settings_.tunnel) {
        through_tunnel(range, *underlay);
      } else {
        natively(range, node, planned);
      }
    }
    if (node.pod_cidrs.empty()) planned.condition = "it has no podCIDRs";
  }

  // Whose range overlaps this one; empty: it is `node`'s from now on. Claimed ranges do not overlap each other, so only
  // the two next to it can.
  std::string claim(const Cidr& range, const std::string& node) {
    const auto after = claimed_.lower_bound(range);
    if (after != claimed_.end() && range.contains(after->first.base())) return after->second;
    if (after != claimed_.begin()) {
      const auto before = std::prev(after);
      if (before->first.contains(range.base())) return before->second;
    }
    claimed_.emplace_hint(after, range, node);
    return {};
  }

  void through_tunnel(const Cidr& range, const IpAddress& underlay) {
    plan_.paths[range] = {PathKind::kNode, underlay};
    if (!plan_.tunnel) return;
    plan_.neighbours[range.base()] = tunnel_mac(underlay);
    plan_.routes[range] = route(range, plan_.tunnel->ifindex, range.base());
  }

  void natively(const Cidr& range, const model::Node& node, NodePlan& planned) {
    const IpAddress* gateway = nullptr;
    std::uint32_t ifindex = 0;
    for (const IpAddress& address : node.addresses) {
      if (address.family() != range.family()) continue;
      if (gateway == nullptr) gateway = &address;
      if (const auto connected = connected_device(address)) {
        gateway = &address;
        ifindex = *connected;
        break;
      }
    }
    if (gateway == nullptr) {
      planned.way = Way::kNone;
      planned.condition = fmt::format("it has no address of the family of podCIDR {}", range);
      return direct(range);
    }
    plan_.paths[range] = {PathKind::kNode, *gateway};
    if (ifindex != 0) {
      plan_.routes[range] = route(range, ifindex, *gateway);
    } else {
      planned.way = Way::kNone;
      planned.condition =
          fmt::format("{} is on no network of this node's devices: routers there have to carry {}", *gateway, range);
    }
  }

  netlink::Route route(const Cidr& range, std::uint32_t ifindex, const IpAddress& gateway) const {
    const IpAddress* source = of_family(settings_.node_ips, range.family());
    return {.destination = range,
            .ifindex = ifindex,
            .gateway = gateway,
            .source = source == nullptr ? std::nullopt : std::optional(*source),
            .protocol = kRouteProtocol,
            .metric = kRouteMetric};
  }

  // The device whose network the address is in; of several the one with the longest prefix.
  std::optional<std::uint32_t> connected_device(const IpAddress& address) const {
    const netlink::InterfaceAddress* best = nullptr;
    for (const netlink::InterfaceAddress& each : facts_.addresses) {
      if (each.address.family() != address.family() || each.prefix == each.address.bits()) continue;
      if (best != nullptr && best->prefix >= each.prefix) continue;
      const auto network = Cidr::parse(fmt::format("{}/{}", each.address, each.prefix), true);
      const auto link = std::ranges::find(facts_.links, each.ifindex, &netlink::Link::ifindex);
      if (network && network->contains(address) && link != facts_.links.end() && link->up) best = &each;
    }
    return best == nullptr ? std::nullopt : std::optional(best->ifindex);
  }

  const Settings& settings_;
  const Facts& facts_;
  Plan plan_;
  std::map<Cidr, std::string> claimed_;  // ranges of pods → node
};

}  // namespace

std::string_view to_string(Way way) {
  switch (way) {
    case Way::kOwn:
      return "own";
    case Way::kNative:
      return "native";
    case Way::kTunnel:
      return "vxlan";
    case Way::kNone:
      break;
  }
  return "none";
}

Plan plan_paths(const Nodes& nodes, const Settings& settings, const Facts& facts) {
  return Planner(settings, facts).plan(nodes);
}

std::map<std::uint32_t, std::string> find_uplinks(const Settings& settings, const Facts& facts,
                                                  std::map<std::string, std::string>& failing) {
  std::map<std::uint32_t, std::string> found;
  for (const std::string& name : settings.uplinks) {
    const auto link = std::ranges::find(facts.links, name, &netlink::Link::name);
    if (link == facts.links.end()) {
      failing["uplink " + name] = "there is no such device";
    } else {
      found[link->ifindex] = name;
    }
  }
  if (!settings.uplinks.empty()) return found;
  for (const IpAddress& own : settings.node_ips) {
    const auto at = std::ranges::find(facts.addresses, own, &netlink::InterfaceAddress::address);
    const auto link = at == facts.addresses.end()
                          ? facts.links.end()
                          : std::ranges::find(facts.links, at->ifindex, &netlink::Link::ifindex);
    if (link == facts.links.end()) {
      failing["address " + own.str()] = "no device carries this address of the node";
    } else if (link->name != "lo") {  // else only --uplink can say which devices lead out; without, the stack routes
      found[link->ifindex] = link->name;
    }
  }
  return found;
}

std::uint32_t pod_mtu(const Settings& settings, const Facts& facts) {
  std::map<std::string, std::string> failing;
  std::uint32_t mtu = 0;
  for (const auto& [ifindex, name] : find_uplinks(settings, facts, failing)) {
    const std::uint32_t one = std::ranges::find(facts.links, ifindex, &netlink::Link::ifindex)->mtu;
    mtu = mtu == 0 ? one : std::min(mtu, one);
  }
  if (mtu == 0) mtu = kUsualMtu;
  if (!settings.tunnel) return mtu;
  const bool v6 = !settings.node_ips.empty() && !settings.node_ips.front().is_v4();
  const std::uint32_t headers = v6 ? kTunnelHeadersV6 : kTunnelHeadersV4;
  return mtu > headers ? mtu - headers : mtu;
}

Mac tunnel_mac(const IpAddress& node) {
  std::uint32_t value = 0;
  const auto bytes = node.bytes();
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(value)) {
    std::uint32_t word = 0;
    std::memcpy(&word, &bytes[at], sizeof(word));
    value = value * TUNNEL_MAC_FACTOR + word;
  }
  Mac mac{TUNNEL_MAC_FIRST, TUNNEL_MAC_SECOND};
  std::memcpy(&mac[2], &value, sizeof(value));
  return mac;
}

}  // namespace fairlead::routing
