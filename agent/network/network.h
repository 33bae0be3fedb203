// SPDX-License-Identifier: Apache-2.0
// Network: the pods' network on this node. Answers the CNI plugin and those who look at endpoints.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/channel.h"
#include "agent/base/clock.h"
#include "agent/base/local_protocol.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/request.h"
#include "agent/base/table_writer.h"
#include "agent/datapath/load_balancer.h"
#include "agent/datapath/pod_programs.h"
#include "agent/model/pod_mtu.h"
#include "agent/model/rows.h"
#include "agent/netlink/link_watch.h"
#include "agent/netlink/netns.h"
#include "agent/network/attachment.h"
#include "agent/network/connector.h"
#include "agent/network/device_reaper.h"
#include "agent/network/ipam.h"
#include "agent/network/journal.h"
#include "agent/network/node_ports.h"
#include "agent/network/pod_gate.h"
#include "agent/network/policy_binder.h"
#include "agent/state/table.h"

namespace fairlead::network {

struct NetworkConfig {
  std::vector<Cidr> pod_cidrs;      // at most one of a family; none: the Node object's
  std::vector<IpAddress> node_ips;  // the node's own, on one of its devices; at most one of a family
  std::uint32_t mtu = 1450;         // of pods' devices, until Deps::mtu says another; 1500 less VXLAN's 50 bytes
  std::string state_dir;
  std::string run_dir;                               // where the plugin leaves what no agent took (cni_spool.h)
  Duration address_rest = std::chrono::seconds(30);  // between an address's release and its next use
  Duration pod_patience = std::chrono::seconds(5);   // how long an ADD waits for its Pod object, and for its policy
};

// Owner: Agent. Thread: its loop's, in the node's network namespace. Cost: an ADD takes about half a millisecond of the
// loop and as much of the connector's thread, a DEL less; a device's deletion goes on in the background. Counts:
// fairlead_cni_request_seconds{op}, fairlead_cni_failures_total{op,code}, fairlead_cni_spooled_dels_total,
// fairlead_ipam_addresses{family,state}, fairlead_ipam_exhausted_total, fairlead_pod_packets_total{verdict}.
//
// Requests (op, args → result):
//   cni.add    {container, ifname, netns, network, podNamespace, podName, podUid, runtimeConfig} → the CNI result
//   cni.del    {container, ifname} → {}          cni.check  {container, ifname, netns, prevResult} → {}
//   cni.gc     {network, valid: [{containerID, ifname}]} → {}
//   cni.status {} → {problems: [text], limitedConnectivity}: none where an ADD can be served
//   endpoint.list {} → [endpoint…]               endpoint.get {name: container id, "namespace/pod", address or device}
//
// Where the configuration names no pod ranges, the Node object's are taken as they come, and kept in the journal: a
// start goes on with them. Pods keep addresses of an earlier range.
//
// An attachment is journaled first, then made; its host side comes up last. So at start a device that is up is a whole
// one and is adopted; anything less is removed. Devices without our mark are never touched.
//
// Requests count in the order in which the runtime made them: a DEL that the plugin wrote down while no agent was there
// is carried out before the next request, and spares an attachment that was asked for after it; a DEL ends an ADD that
// still waits, and waits itself for one that is being made.
class Network {
 public:
  struct Deps {
    NetworkConfig config;
    datapath::PodPrograms& programs;
    datapath::SocketClients& sockets;
    TableWriter<model::ServedNetns> namespaces;
    TableWriter<model::HostPort> host_ports;
    Responder<Inspect, Json> requests;
    metrics::Registry& registry;
    std::optional<state::TableReader<model::Node>> node{};  // whose ranges count where the configuration has none
    std::optional<state::TableReader<model::Pod>> pods{};   // each ADD waits for its own; none: the agent runs the pods
    std::optional<state::TableReader<model::PodPolicy>> policies{};  // … and for its rules; none: nobody is isolated
    std::optional<state::TableReader<model::Service>> services{};    // whose NodePorts are nobody else's
    std::optional<Receiver<model::PodMtu>> mtu{};                    // for the pods that come
  };

  Network(Loop& loop, const Clock& clock, Deps deps);

  // Adopts what is there, then starts to answer. On the loop's thread, or before it runs.
  Result<> start();

 private:
  struct Endpoint {
    Attachment attachment;
    std::uint32_t ifindex = 0;   // 0: the device is gone, with its pod's namespace; DEL is still to come
    std::string journaled = {};  // the attachment, as the journal says it
  };
  using Undo = std::vector<std::function<void()>>;
  using Done = std::move_only_function<void(Result<Json>)>;
  // An attachment that has its addresses, and is about to be made or being connected.
  struct Making {
    Connector::Job job;
    Done done;
    std::uint32_t mtu = 0;         // of its devices
    Undo undo = {};                // what there is to take back, the last first
    std::vector<Task> later = {};  // requests for it that came meanwhile, in their order
  };

  Result<> adopt();
  void node_changed(const state::Delta<model::Node>& delta);
  void use_ranges(const std::vector<Cidr>& ranges);
  Result<> adopt_one(const Endpoint& endpoint);
  // Into the maps, with the rules of its pod.
  Result<> publish(const Endpoint& endpoint);
  Result<> withdraw(std::uint32_t ifindex);  // out of the maps
  void policy_changed(const model::PodPolicy& row);
  // Calls `go` once all is known of the attachment's pod that is to be in force before its first packet.
  void await_pod(const Attachment& attachment, PodGate<model::Pod>::Go go);
  void tell_tables() const;
  JournalState journal_from_kernel(const std::vector<netlink::Link>& links) const;
  Result<> remove_strays();

  void answer(const Inspect& request, Reply<Json> reply);
  void end_waiting(const std::string& key);
  // One request after another for an attachment: it waits while that is being made. `known`: whether it may go on.
  void carry_out(const Inspect& request, const std::string& key, Result<> known, Done done);
  void count(const std::string& op, TimePoint begin, const Result<Json>& result);
  Result<Json> dispatch(const Inspect& request);
  void add(const Json& args, Done done);
  Result<Connector::Job> open_pod(const Json& args) const;
  std::optional<Result<Json>> renew(Connector::Job& asked);
  Result<> reserve(Making& making);
  void make_reserved();
  Result<> make(Making& making);
  void made(const std::string& key, Result<> connected);
  Result<Json> del(const Json& args);
  Result<Json> check(const Json& args);
  Result<Json> gc(const Json& args);
  Json status();
  // Carries out what the plugin has left for us.
  void drain_spool();
  Json list() const;
  Result<Json> get(const Json& args) const;
  Json describe(const Endpoint& endpoint) const;

  Result<std::vector<IpAddress>> allocate(const Attachment& attachment);
  // kExists: a mapping is another pod's or a Service's.
  Result<> may_map(const Attachment& attachment) const;
  static std::map<std::string, model::HostPort> host_ports(const Attachment& attachment);
  Result<netlink::VethEnds> make_link(const Attachment& attachment, const netlink::Netns& pod);
  // Devices went by themselves: out of the maps with them.
  void lose_device(std::uint32_t ifindex);
  void lose_missing_devices();
  // Out of the maps, and the address to rest; the device goes in the background.
  Result<> detach(const std::string& key);
  // Whether all that attach() made is still there; kConflict names what is not.
  Result<> verify(const Endpoint& endpoint, netlink::Netns& pod);
  datapath::PodEndpoint pod_endpoint(const Endpoint& endpoint) const;
  Result<> save(bool durable = false) const;
  static model::ServedNetns served_netns(const Endpoint& endpoint);
  void count_addresses();
  void count_packets();

  Loop& loop_;
  const Clock& clock_;
  NetworkConfig config_;
  datapath::PodPrograms& programs_;
  datapath::SocketClients& sockets_;
  TableWriter<model::ServedNetns> namespaces_;
  TableWriter<model::HostPort> host_ports_;
  Responder<Inspect, Json> requests_;
  metrics::Registry& registry_;
  Journal journal_;
  Ipam ipam_;
  const std::string boot_;
  std::optional<state::TableReader<model::Node>> node_;
  std::optional<Receiver<model::PodMtu>> mtu_;
  std::optional<NodePorts> node_ports_;
  std::optional<PodGate<model::Pod>> gate_;
  std::optional<PolicyBinder> policies_;
  std::unique_ptr<netlink::Socket> host_;
  std::unique_ptr<DeviceReaper> reaper_;
  std::uint64_t own_cookie_ = 0;                             // of the node's network namespace
  std::map<std::string, Endpoint> endpoints_;                // by Attachment::key()
  std::set<std::string> unwell_;                             // keys of those that a start could not put right
  std::map<std::string, Making> making_;                     // by key
  std::vector<std::string> reserved_;                        // keys of those that are to be written down and made
  std::unique_ptr<Connector> connector_;                     // works on jobs of making_, so it goes first
  std::multimap<std::string, std::weak_ptr<bool>> waiting_;  // ADDs that wait at the gate → whether a DEL came
  std::map<std::string, datapath::VerdictCount> counted_;    // what the metrics hold already
  std::unique_ptr<netlink::LinkWatch> link_watch_;
  Subscription count_timer_;
  Subscription spool_timer_;
};

}  // namespace fairlead::network
