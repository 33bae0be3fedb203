// SPDX-License-Identifier: Apache-2.0
// Routing: the domain that keeps this node's way to other nodes' pods, and its pods' way to the world.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "agent/base/channel.h"
#include "agent/base/clock.h"
#include "agent/base/local_protocol.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/reconciler.h"
#include "agent/base/request.h"
#include "agent/datapath/node_paths.h"
#include "agent/model/pod_mtu.h"
#include "agent/model/rows.h"
#include "agent/netlink/socket.h"
#include "agent/netlink/watch.h"
#include "agent/routing/plan.h"
#include "agent/state/table.h"

namespace fairlead::routing {

// Reads devices and addresses as they are now.
Result<Facts> read_facts(netlink::Socket& kernel);

// A plan is made anew from the table of nodes and the kernel's devices and addresses whenever either changes; what
// differs from it is put right, key by key, with back-off. Somebody who removes a route, neighbour, device or filter of
// ours is noticed by netlink, and else by the audit. Nothing is removed before the list of nodes is complete. Only
// routes of our protocol, and the device with our alias, are ours; paths are whole BPF maps of ours.
//
// Owner: Agent. Thread: its own loop, in the node's network namespace: a VXLAN device or a program takes the kernel
// 8–50 ms, which no ADD should wait for. Cost: a change of any device is one look (dumps of devices, addresses and our
// routes: about 1 ms with 100 pods); looks that come at once are one. Counts: fairlead_routes{state: wanted, in_force},
// fairlead_nodes{way}, fairlead_routing_repairs_total{what}: what somebody else had taken away.
//
// Requests (op → result): routing.sync, as observe/status.h says, with routes, routes_in_force, nodes, uplinks, tunnel,
// mtu, conditions {node: why not all its pods are reached}; node.list → [{name, addresses, pod_cidrs, way, condition}].
class Routing {
 public:
  struct Deps {
    Settings settings;
    datapath::NodePaths& paths;
    state::TableReader<model::Node> nodes;
    Responder<Inspect, Json> inspect;
    metrics::Registry& registry;
    Duration audit_period = std::chrono::seconds(30);
    std::optional<Sender<model::PodMtu>> pod_mtu{};  // who makes pods' devices
  };

  Routing(Loop& loop, Deps deps);

  // On the thread whose network namespace is the node's, before the loop runs or on it.
  Result<> start();

 private:
  // What of ours there is, as last read or written.
  struct Actual {
    std::map<Cidr, netlink::Route> routes;
    std::map<IpAddress, Mac> neighbours;
    std::map<Mac, IpAddress> peers;
    std::map<Cidr, datapath::Path> paths;
    std::optional<datapath::Masquerade> masquerade;  // none: not told yet
    std::optional<datapath::NodePaths::Tunnel> tunnel;
    bool tunnel_told = false;
    std::set<std::uint32_t> attached;
    std::set<std::uint32_t> leftovers;  // of earlier loads, on devices that need no programs any more
  };

  void nodes_changed(const state::Delta<model::Node>& delta);
  void look_soon();
  // Plans anew and marks what differs; `deep`: paths are read back too.
  void look(bool deep);
  // What cannot be had and which nodes' pods are not reached, as it begins and as it ends.
  void log_changes(const Plan& before) const;
  void tell_mtu();
  Result<> read_actual(const Facts& facts, bool deep);
  void forget_changed(const Plan& before);
  void mark_differences();
  void mark(const std::string& key);

  Result<> reconcile(const std::string& key);
  Result<> reconcile_device();
  Result<> reconcile_address();
  Result<> reconcile_uplink(std::uint32_t ifindex);
  Result<> reconcile_route(const Cidr& destination);
  Result<> reconcile_neighbour(const IpAddress& address);
  Result<> reconcile_peer(const Mac& mac);
  Result<> reconcile_path(const Cidr& destination);
  Result<> reconcile_tunnel();
  Result<> reconcile_masquerade();
  Result<> reconcile_stack();
  const netlink::Link* own_device() const;
  // IPv4's on the tunnel's device.
  std::vector<netlink::InterfaceAddress> device_addresses() const;

  Json status() const;
  Json list_nodes() const;
  void count();

  Loop& loop_;
  Deps deps_;
  std::unique_ptr<netlink::Socket> kernel_;
  std::unique_ptr<netlink::Watch> watch_;
  Reconciler reconciler_;
  Nodes nodes_;
  bool complete_ = false;
  Facts facts_;
  Plan plan_;
  Actual actual_;
  std::uint32_t told_mtu_ = 0;
  std::optional<Error> blind_;     // why the kernel could not be read
  std::set<std::string> settled_;  // keys that were in force once: what differs now was taken away
  Subscription soon_;
  prometheus::Gauge& routes_wanted_;
  prometheus::Gauge& routes_in_force_;
};

}  // namespace fairlead::routing
