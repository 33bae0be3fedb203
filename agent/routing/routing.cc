// SPDX-License-Identifier: Apache-2.0
#include "agent/routing/routing.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "agent/base/log.h"
#include "agent/routing/stack.h"

namespace fairlead::routing {
namespace {

constexpr const char* kModule = "routing";
constexpr const char* kDevice = "device";
constexpr const char* kAddress = "address";  // of the device
constexpr const char* kTunnel = "tunnel";
constexpr const char* kMasquerade = "masquerade";
constexpr const char* kStack = "stack";
constexpr auto kSettle = std::chrono::milliseconds(5);  // changes this close together are one look
constexpr std::string_view kPodAlias = "fairlead/";     // of pods' devices, which the network domain looks after

// A key's kind and what it names: "route 10.1.2.0/24".
std::pair<std::string_view, std::string> split(const std::string& key) {
  const std::size_t space = key.find(' ');
  if (space == std::string::npos) return {key, {}};
  return {std::string_view(key).substr(0, space), key.substr(space + 1)};
}

bool same_device(const netlink::Link& link, const netlink::VxlanSpec& want) {
  return link.alias == kTunnelAlias && link.up && link.mtu == want.mtu && link.mac == want.mac;
}

bool carries(const netlink::Link& link, const netlink::VxlanSpec& want) {
  return link.kind == "vxlan" && !link.vxlan_external && link.vxlan_port == want.port && link.vxlan_vni == want.vni &&
         link.vxlan_local == want.local;
}

// How the reconciler calls what is told by `kind` and `object`.
std::string key_of(const char* kind, const auto& object) {
  return fmt::format("{} {}", kind, object);
}
std::string key_of(const char* kind, const Mac& object) {
  return fmt::format("{} {}", kind, fairlead::to_string(object));
}

}  // namespace

Result<Facts> read_facts(netlink::Socket& kernel) {
  FL_LET(auto links, kernel.links());
  FL_LET(auto addresses, kernel.interface_addresses());
  return Facts{std::move(links), std::move(addresses)};
}

Routing::Routing(Loop& loop, Deps deps)
    : loop_(loop),
      deps_(std::move(deps)),
      reconciler_(loop, kModule,
                  {.reconcile = [this](const std::string& key) { return reconcile(key); },
                   .passed = [this] { count(); },
                   .audit = [this] { look(true); }},
                  {}, deps_.audit_period),
      routes_wanted_(
          metrics::gauge(deps_.registry, "fairlead_routes", "Routes to other nodes' pods.", {{"state", "wanted"}})),
      routes_in_force_(
          metrics::gauge(deps_.registry, "fairlead_routes", "Routes to other nodes' pods.", {{"state", "in_force"}})) {}

Result<> Routing::start() {
  FL_LET(netlink::Socket socket, netlink::Socket::open());
  kernel_ = std::make_unique<netlink::Socket>(std::move(socket));
  // Before the first look: nothing is missed in between.
  netlink::Watch::Handlers handlers;
  handlers.links = handlers.addresses = handlers.missed = [this] { look_soon(); };
  handlers.route = [this](const netlink::Route& route, bool gone) {
    const auto wanted = plan_.routes.find(route.destination);
    const bool differs =
        wanted == plan_.routes.end() ? route.protocol == kRouteProtocol : gone || route != wanted->second;
    if (differs) look_soon();
  };
  handlers.neighbour = [this](std::uint32_t ifindex, const IpAddress& address, const std::optional<Mac>& mac) {
    const auto wanted = plan_.neighbours.find(address);
    const bool differs = wanted == plan_.neighbours.end() ? mac.has_value() : mac != wanted->second;
    if (plan_.tunnel && ifindex == plan_.tunnel->ifindex && differs) look_soon();
  };
  handlers.peer = [this](std::uint32_t ifindex, const netlink::Neighbour& peer, bool gone) {
    const auto wanted = plan_.peers.find(peer.mac);
    const bool right = wanted != plan_.peers.end() && wanted->second == peer.address;
    if (plan_.tunnel && ifindex == plan_.tunnel->ifindex && right == gone) look_soon();
  };
  FL_LET(watch_, netlink::Watch::start(loop_, std::move(handlers)));
  look(true);
  reconciler_.start();
  deps_.nodes.attach(loop_, [this](const state::Delta<model::Node>& delta) { nodes_changed(delta); });
  deps_.inspect.attach(loop_, [this](const Inspect& request, Reply<Json> reply) {
    if (request.op == "routing.sync") return reply(status());
    if (request.op == "node.list") return reply(list_nodes());
    reply(fail(Code::kNotFound, "no operation \"{}\"", request.op));
  });
  return {};
}

void Routing::nodes_changed(const state::Delta<model::Node>& delta) {
  for (const auto& change : delta.changes) {
    if (change.after != nullptr) {
      nodes_[change.key] = change.after;
    } else {
      nodes_.erase(change.key);
    }
  }
  const bool first = delta.complete && !std::exchange(complete_, delta.complete);
  look(first);
}

void Routing::look_soon() {
  if (!soon_) soon_ = loop_.after(kSettle, [this] { look(false); });
}

void Routing::look(bool deep) {
  soon_.cancel();
  auto facts = read_facts(*kernel_);
  Result<> read = facts ? read_actual(*facts, deep) : Result<>(std::unexpected(facts.error()));
  if (!read) {
    log::warn(kModule, "the kernel's routes cannot be read", {{"error", read.error()}});
    blind_ = std::move(read).error();
    return;  // the next change, or the audit, looks again
  }
  blind_.reset();
  facts_ = std::move(*facts);
  Plan before = std::exchange(plan_, plan_paths(nodes_, deps_.settings, facts_));
  log_changes(before);
  tell_mtu();
  forget_changed(before);
  for (const auto& [ifindex, name] : before.uplinks) {
    if (!plan_.uplinks.contains(ifindex)) reconciler_.mark(fmt::format("uplink {}", ifindex));
  }
  if (deep || before.uplinks != plan_.uplinks || before.ipv6 != plan_.ipv6) reconciler_.mark(kStack);
  mark_differences();
  count();
}

void Routing::tell_mtu() {
  // While an uplink is away nothing is known: what was said last holds.
  if (plan_.uplinks.empty() && told_mtu_ != 0) return;
  const std::uint32_t mtu = pod_mtu(deps_.settings, facts_);
  if (!deps_.pod_mtu || std::exchange(told_mtu_, mtu) == mtu) return;
  log::info(kModule, "pods' packets may be so large from now on", {{"mtu", mtu}});
  deps_.pod_mtu->send({mtu});
}

// What was in force under the same plan and is not any more, somebody else took away; what the plan changes is no such
// thing.
void Routing::forget_changed(const Plan& before) {
  const auto forget = [&](const auto& old, const auto& now, const char* kind) {
    for (const auto& [object, value] : old) {
      const auto at = now.find(object);
      if (at == now.end() || at->second != value) settled_.erase(key_of(kind, object));
    }
    for (const auto& [object, value] : now) {
      if (!old.contains(object)) settled_.erase(key_of(kind, object));
    }
  };
  forget(before.neighbours, plan_.neighbours, "neighbour");
  forget(before.peers, plan_.peers, "peer");
  forget(before.routes, plan_.routes, "route");
  forget(before.paths, plan_.paths, "path");
  forget(before.uplinks, plan_.uplinks, "uplink");
  if (before.device != plan_.device) settled_.erase(kDevice);
  if (before.device_address != plan_.device_address) settled_.erase(kAddress);
  if (before.tunnel != plan_.tunnel) settled_.erase(kTunnel);
  if (before.masquerade != plan_.masquerade) settled_.erase(kMasquerade);
}

Result<> Routing::read_actual(const Facts& facts, bool deep) {
  FL_LET(const std::vector<netlink::Route> routes, kernel_->routes_of(kRouteProtocol));
  actual_.routes.clear();
  for (const netlink::Route& route : routes) actual_.routes.insert_or_assign(route.destination, route);
  actual_.neighbours.clear();
  actual_.peers.clear();
  actual_.attached.clear();
  const auto device = std::ranges::find(facts.links, kTunnelDevice, &netlink::Link::name);
  if (device != facts.links.end() && device->alias == kTunnelAlias) {
    FL_LET(const std::vector<netlink::Neighbour> neighbours, kernel_->neighbours(device->ifindex));
    for (const netlink::Neighbour& each : neighbours) actual_.neighbours[each.address] = each.mac;
    FL_LET(const std::vector<netlink::Neighbour> peers, kernel_->peers(device->ifindex));
    for (const netlink::Neighbour& each : peers) actual_.peers[each.mac] = each.address;
  }
  std::vector<std::uint32_t> others;
  for (const netlink::Link& link : facts.links) {
    if (link.alias.starts_with(kPodAlias)) continue;
    others.push_back(link.ifindex);
    // Away from where they are wanted, programs are looked for now and then only.
    const bool ours = plan_.uplinks.contains(link.ifindex) || link.name == kTunnelDevice;
    if (!ours && !deep) continue;
    FL_LET(const bool attached, deps_.paths.attached(link.ifindex));
    if (attached) actual_.attached.insert(link.ifindex);
  }
  if (!deep) return {};
  FL_LET(actual_.leftovers, deps_.paths.leftovers(others));
  FL_LET(actual_.paths, deps_.paths.paths());
  return {};
}

void Routing::mark(const std::string& key) {
  if (settled_.erase(key) != 0) {
    const std::string kind(split(key).first);
    log::info(kModule, "somebody took this away: it is put back", {{"object", key}});
    metrics::counter(deps_.registry, "fairlead_routing_repairs_total",
                     "What others removed or changed and was put back.", {{"what", kind}})
        .Increment();
  }
  reconciler_.mark(key);
}

void Routing::mark_differences() {
  // The device first: all that goes through it needs it.
  const netlink::Link* device = own_device();
  const bool device_right = plan_.device
                                ? device != nullptr && same_device(*device, *plan_.device) &&
                                      carries(*device, *plan_.device) && actual_.attached.contains(device->ifindex)
                                : device == nullptr || device->alias != kTunnelAlias;
  if (!device_right) mark(kDevice);
  if (plan_.tunnel && (complete_ || plan_.device_address)) {
    const std::vector<netlink::InterfaceAddress> there = device_addresses();
    const bool right =
        plan_.device_address ? there.size() == 1 && there.front().address == *plan_.device_address : there.empty();
    if (!right) mark(kAddress);
  }
  // While the device is away, the maps go on naming it: pods' packets must not leave the node without their tunnel.
  const bool tunnel_known = !plan_.device || plan_.tunnel;
  if (tunnel_known && (!actual_.tunnel_told || actual_.tunnel != plan_.tunnel)) mark(kTunnel);
  for (const auto& [ifindex, name] : plan_.uplinks) {
    if (!actual_.attached.contains(ifindex)) mark(fmt::format("uplink {}", ifindex));
  }
  const auto compare = [&](const auto& wanted, const auto& have, const char* kind) {
    for (const auto& [object, value] : wanted) {
      const auto at = have.find(object);
      if (at == have.end() || at->second != value) mark(key_of(kind, object));
    }
    if (!complete_) return;
    for (const auto& [object, value] : have) {
      if (!wanted.contains(object)) reconciler_.mark(key_of(kind, object));
    }
  };
  if (plan_.tunnel) compare(plan_.peers, actual_.peers, "peer");
  compare(plan_.neighbours, actual_.neighbours, "neighbour");
  compare(plan_.routes, actual_.routes, "route");
  compare(plan_.paths, actual_.paths, "path");
  if (!complete_) return;
  if (actual_.masquerade != plan_.masquerade) mark(kMasquerade);
  std::set<std::uint32_t> with_programs = actual_.attached;
  with_programs.insert(actual_.leftovers.begin(), actual_.leftovers.end());
  for (const std::uint32_t ifindex : with_programs) {
    const bool tunnel = device != nullptr && ifindex == device->ifindex;
    if (!tunnel && !plan_.uplinks.contains(ifindex)) reconciler_.mark(fmt::format("uplink {}", ifindex));
  }
}

std::vector<netlink::InterfaceAddress> Routing::device_addresses() const {
  std::vector<netlink::InterfaceAddress> all;
  const netlink::Link* device = own_device();
  std::ranges::copy_if(facts_.addresses, std::back_inserter(all), [&](const netlink::InterfaceAddress& each) {
    return device != nullptr && each.ifindex == device->ifindex && each.address.is_v4();
  });
  return all;
}

const netlink::Link* Routing::own_device() const {
  const auto at = std::ranges::find(facts_.links, kTunnelDevice, &netlink::Link::name);
  return at == facts_.links.end() ? nullptr : &*at;
}

Result<> Routing::reconcile(const std::string& key) {
  const auto [kind, object] = split(key);
  Result<> done;
  if (kind == kDevice) {
    done = reconcile_device();
  } else if (kind == kAddress) {
    done = reconcile_address();
  } else if (kind == kTunnel) {
    done = reconcile_tunnel();
  } else if (kind == kMasquerade) {
    done = reconcile_masquerade();
  } else if (kind == kStack) {
    return reconcile_stack();
  } else if (kind == "uplink") {
    done = reconcile_uplink(static_cast<std::uint32_t>(std::stoul(object)));
  } else if (kind == "peer") {
    done = reconcile_peer(*parse_mac(object));
  } else if (kind == "neighbour") {
    done = reconcile_neighbour(*IpAddress::parse(object));
  } else if (kind == "route") {
    done = reconcile_route(*Cidr::parse(object));
  } else {
    done = reconcile_path(*Cidr::parse(object));
  }
  if (done) settled_.insert(key);
  return done;
}

Result<> Routing::reconcile_device() {
  FL_LET(const std::vector<netlink::Link> links, kernel_->links());
  const auto found = std::ranges::find(links, kTunnelDevice, &netlink::Link::name);
  std::optional<netlink::Link> link = found == links.end() ? std::nullopt : std::optional(*found);
  if (!plan_.device) {
    if (!link || link->alias != kTunnelAlias) return {};
    return kernel_->delete_link(link->ifindex);  // netlink tells us of it
  }
  const netlink::VxlanSpec& want = *plan_.device;
  // One that only its birth was finished of is known by its address.
  const bool ours = link && (link->alias == kTunnelAlias || (carries(*link, want) && link->mac == want.mac));
  if (link && !ours) {
    return fail(Code::kExists, "device {} is there already and not ours: remove it, or use --tunnel none", want.name);
  }
  if (link && !carries(*link, want)) {
    FL_TRY(kernel_->delete_link(link->ifindex));
    link.reset();
  }
  if (!link) {
    const auto created = kernel_->create_vxlan(want);
    if (!created) {
      if (created.error().code != Code::kExists) return std::unexpected(created.error());
      return fail(Code::kExists,
                  "VXLAN device {}: another device of this kind uses UDP port {} with VNI {}: set "
                  "--vxlan-port",
                  want.name, want.port, want.vni);
    }
    FL_LET(link, kernel_->find_link(want.name));
  }
  if (link->alias != kTunnelAlias) FL_TRY(kernel_->set_alias(link->ifindex, kTunnelAlias));
  if (link->mtu != want.mtu) FL_TRY(kernel_->set_mtu(link->ifindex, want.mtu));
  if (link->mac != want.mac) FL_TRY(kernel_->set_mac(link->ifindex, want.mac));
  FL_TRY(enable_forwarding(want.name));
  FL_TRY(loosen_reverse_path(want.name));
  FL_LET(const bool attached, deps_.paths.attached(link->ifindex));
  if (!attached) FL_TRY(deps_.paths.attach_tunnel(link->ifindex));
  actual_.attached.insert(link->ifindex);
  if (link->up) return {};
  auto up = kernel_->set_up(link->ifindex);  // netlink tells us of it: routes come next
  if (!up && up.error().sys == EADDRINUSE) {
    return fail(Code::kExists, "VXLAN device {}: another device or program uses UDP port {}: set --vxlan-port",
                want.name, want.port);
  }
  return up;
}

Result<> Routing::reconcile_address() {
  if (!plan_.tunnel) return {};  // once the device is there
  for (const netlink::InterfaceAddress& each : device_addresses()) {
    if (each.address != plan_.device_address) FL_TRY(kernel_->erase_address(each.ifindex, each));
  }
  return plan_.device_address ? kernel_->add_address(plan_.tunnel->ifindex, *plan_.device_address) : Result<>();
}

Result<> Routing::reconcile_uplink(std::uint32_t ifindex) {
  if (!plan_.uplinks.contains(ifindex)) {
    FL_TRY(deps_.paths.detach(ifindex));
    actual_.attached.erase(ifindex);
    actual_.leftovers.erase(ifindex);
    return {};
  }
  FL_TRY(deps_.paths.attach_uplink(ifindex));
  actual_.attached.insert(ifindex);
  return {};
}

Result<> Routing::reconcile_route(const Cidr& destination) {
  const auto wanted = plan_.routes.find(destination);
  const auto have = actual_.routes.find(destination);
  if (wanted != plan_.routes.end()) {
    FL_TRY(kernel_->set_route(wanted->second));
    actual_.routes.insert_or_assign(destination, wanted->second);
  } else if (have != actual_.routes.end()) {
    FL_TRY(kernel_->erase_route(have->second));
    actual_.routes.erase(have);
  }
  return {};
}

Result<> Routing::reconcile_neighbour(const IpAddress& address) {
  const netlink::Link* device = own_device();
  if (device == nullptr) return {};
  if (const auto wanted = plan_.neighbours.find(address); wanted != plan_.neighbours.end()) {
    FL_TRY(kernel_->set_neighbour(device->ifindex, address, wanted->second));
    actual_.neighbours[address] = wanted->second;
  } else if (actual_.neighbours.contains(address)) {
    FL_TRY(kernel_->erase_neighbour(device->ifindex, address));
    actual_.neighbours.erase(address);
  }
  return {};
}

Result<> Routing::reconcile_peer(const Mac& mac) {
  const netlink::Link* device = own_device();
  if (device == nullptr) return {};
  const auto have = actual_.peers.find(mac);
  if (const auto wanted = plan_.peers.find(mac); wanted != plan_.peers.end()) {
    FL_TRY(kernel_->set_peer(device->ifindex, {wanted->second, mac}));
    actual_.peers[mac] = wanted->second;
  } else if (have != actual_.peers.end()) {
    FL_TRY(kernel_->erase_peer(device->ifindex, {have->second, mac}));
    actual_.peers.erase(have);
  }
  return {};
}

Result<> Routing::reconcile_path(const Cidr& destination) {
  if (const auto wanted = plan_.paths.find(destination); wanted != plan_.paths.end()) {
    FL_TRY(deps_.paths.set_path(destination, wanted->second));
    actual_.paths[destination] = wanted->second;
  } else {
    FL_TRY(deps_.paths.erase_path(destination));
    actual_.paths.erase(destination);
  }
  return {};
}

Result<> Routing::reconcile_tunnel() {
  if (plan_.device && !plan_.tunnel) return {};  // once the device is there
  FL_TRY(deps_.paths.set_tunnel(plan_.tunnel));
  actual_.tunnel = plan_.tunnel;
  actual_.tunnel_told = true;
  return {};
}

Result<> Routing::reconcile_masquerade() {
  // The ports first: none of the kernel's own connections may have one.
  if (!plan_.masquerade.addresses.empty()) {
    FL_TRY(reserve_ports(plan_.masquerade.first_port, plan_.masquerade.last_port));
  }
  FL_TRY(deps_.paths.set_masquerade(plan_.masquerade));
  actual_.masquerade = plan_.masquerade;
  return {};
}

Result<> Routing::reconcile_stack() {
  for (const auto& [ifindex, name] : plan_.uplinks) FL_TRY(enable_forwarding(name));
  if (plan_.tunnel) {
    FL_TRY(enable_forwarding(kTunnelDevice));
    FL_TRY(loosen_reverse_path(kTunnelDevice));
  }
  if (plan_.ipv6) FL_TRY(enable_ipv6_forwarding());
  if (actual_.masquerade && !actual_.masquerade->addresses.empty()) {
    FL_TRY(reserve_ports(actual_.masquerade->first_port, actual_.masquerade->last_port));
  }
  return {};
}

}  // namespace fairlead::routing
