// SPDX-License-Identifier: Apache-2.0
// Agent: every module, thread, queue and arrow of fairlead-agent.
//
//   thread     what lives on it
//   main       loading of programs; then stop signals, local socket, metrics and health, status hub
//   edge       source of objects: manifests, or the API server (and the node's word to it)
//   services   slice controller (manifests), services
//   network    CNI requests, endpoints
//   routing    routes, tunnel, uplinks: the ways to other nodes and the world
//   policy     who may speak with whom
//   pods       pod workers, probes, CRI events
//   sockets    ends sockets of backends that are gone
//   flows      tracked connections and drops, for those who ask
//
//   edge ──▶ services, slices, pods, config maps, secrets, node, nodes (tables)
//   nodes ──▶ routing ──▶ PodMtu ──▶ network
//   node ──▶ network (pod ranges)      pods ──▶ network (dataplane mode: an ADD waits for its Pod object)
//   slice controller ──▶ slices        pods ──▶ local pods (table) ──▶ slice controller, services
//   services ──▶ Applied ──▶ pods      pods ──▶ statuses, events, wants of config, static pods, tokens asked ──▶ edge
//   network ──▶ host ports (table) ──▶ services
//   edge ──▶ network policies, namespaces, peer pods (tables) ──▶ policy ──▶ pod policies (table) ──▶ network
//   network ──▶ namespaces (table) ──▶ sockets ◀── BackendsGone ◀── load balancer (services)
//
// Start: first what Services need, then their threads (edge, services); the kernel takes most of a second to verify the
// packets' programs, and lists are read and Services put into force meanwhile. Then all else, and its threads.
//
// Stop: intake first (servers), then the edge, then pods, services, network, policy, routing, sockets, flows;
// threads are joined in that order, and only then is anything destroyed. Pins, devices and pods stay as they are.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/channel.h"
#include "agent/base/clock.h"
#include "agent/base/heap_trimmer.h"
#include "agent/base/loop_thread.h"
#include "agent/base/metrics.h"
#include "agent/base/signals.h"
#include "agent/config/configuration.h"
#include "agent/cri/client.h"
#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/bpf_node_paths.h"
#include "agent/datapath/bpf_policy_maps.h"
#include "agent/datapath/bpf_root.h"
#include "agent/datapath/bpf_socket_clients.h"
#include "agent/datapath/conntrack.h"
#include "agent/datapath/drop_events.h"
#include "agent/datapath/pod_programs.h"
#include "agent/datapath/sock_programs.h"
#include "agent/datapath/socket_memories.h"
#include "agent/flows/flows.h"
#include "agent/health/client.h"
#include "agent/kube/api/api_source.h"
#include "agent/kube/manifests/manifest_source.h"
#include "agent/model/pod_mtu.h"
#include "agent/model/rows.h"
#include "agent/network/network.h"
#include "agent/node/node.h"
#include "agent/object_tables.h"
#include "agent/observe/status_hub.h"
#include "agent/pods/pods.h"
#include "agent/policy/policy.h"
#include "agent/routing/routing.h"
#include "agent/server/http_server.h"
#include "agent/server/local_server.h"
#include "agent/services/services.h"
#include "agent/services/slice_controller.h"
#include "agent/sockets/socket_ender.h"
#include "agent/state/table.h"

namespace fairlead {

// Names of sources in tables.
inline constexpr auto kManifestSource = "manifests";
inline constexpr auto kStaticSource = "static";
inline constexpr auto kSliceController = "slice-controller";
inline constexpr auto kPods = "pods";
inline constexpr auto kNetwork = "network";
inline constexpr auto kPolicy = "policy";

// What the pods domain tells, and where it asks, about its pods.
struct PodTellers {
  Sender<model::PodStatusUpdate> statuses;
  Sender<model::EventNote> events;
  Sender<model::StaticPod> static_pods;
  Sender<model::ConfigWant> config_wants;
  Caller<model::TokenAsk, model::ServiceAccountToken> tokens;
};

// One class in three files by job: its life (agent.cc), what Services need (agent_services.cc), all else
// (agent_domains.cc). Owner and thread: main. Members are in the order in which they are made; the destructor undoes
// it, after every thread ended.
class Agent {
 public:
  explicit Agent(config::AgentConfiguration configuration) : config_(std::move(configuration)) {}
  ~Agent();

  // Makes everything, and puts Services into force meanwhile. After an error it is only to be destroyed.
  Result<> build();
  // Runs until a signal asks to stop.
  Result<> run();

 private:
  bool uses_manifests() const { return !config_.manifests.empty(); }
  bool runs_pods() const { return config_.mode == config::Mode::kNode; }
  bool has_static_pods() const { return runs_pods() && !config_.static_pod_path.empty(); }
  std::string source() const { return uses_manifests() ? kManifestSource : kube::kApiSource; }
  // A table's source that is there in some set-ups only.
  static std::vector<std::string> only_if(bool there, const char* source) {
    return there ? std::vector<std::string>{source} : std::vector<std::string>();
  }

  // agent_services.cc
  datapath::PodCapacities capacities() const;
  model::Node manifest_node() const;
  Result<> load_sockets();
  Result<> build_source();
  void build_manifests(Responder<Inspect, Json> inspect);
  Result<> build_api(Responder<Inspect, Json> inspect);
  void build_static_pods();
  std::pair<PodTellers, kube::PodEnds> make_pod_ends();
  Result<> build_services();

  // agent_domains.cc
  Result<> build_sockets();
  Result<> build_policy();
  Result<> build_network();
  routing::Settings routing_settings() const;
  Result<std::uint32_t> pod_mtu() const;
  Result<> build_routing();
  Result<> build_flows();
  Result<> build_pods();
  void build_node_reporter(const node::MachineFacts& facts);
  Result<> build_front();

  // agent.cc
  void start_services();
  Result<> start();
  void stop();

  config::AgentConfiguration config_;
  SystemClock clock_;
  std::shared_ptr<metrics::Registry> registry_ = std::make_shared<metrics::Registry>();

  Loop main_loop_;
  HeapTrimmer heap_trimmer_{main_loop_};
  std::optional<StopSignals> signals_;
  LoopThread edge_{"edge"}, pods_thread_{"pods"}, services_thread_{"services"}, network_thread_{"network"},
      policy_thread_{"policy"}, routing_thread_{"routing"}, sockets_thread_{"sockets"}, flows_thread_{"flows"};
  const std::vector<LoopThread*> threads_{&edge_,           &pods_thread_,   &services_thread_,
                                          &network_thread_, &policy_thread_, &routing_thread_,
                                          &sockets_thread_, &flows_thread_};  // in stop order

  ObjectTables objects_{source(), only_if(uses_manifests(), kSliceController),
                        only_if(has_static_pods(), kStaticSource)};
  state::Table<model::LocalPod> local_pods_table_{only_if(runs_pods(), kPods)};
  state::Table<model::ServedNetns> namespaces_table_{{kNetwork}};
  state::Table<model::PodPolicy> pod_policies_table_{{kPolicy}};
  state::Table<model::HostPort> host_ports_table_{{kNetwork}};

  std::optional<datapath::BpfRoot> bpf_root_;
  std::unique_ptr<datapath::SockPrograms> sock_programs_;
  std::unique_ptr<datapath::BpfLoadBalancer> balancer_;
  std::unique_ptr<datapath::BpfSocketClients> socket_clients_;
  std::unique_ptr<datapath::SocketMemories> socket_memories_;
  std::unique_ptr<datapath::BpfPodPrograms> pod_programs_;
  std::unique_ptr<datapath::Conntrack> conntrack_;
  std::unique_ptr<datapath::DropEvents> drops_;
  std::unique_ptr<datapath::BpfNodePaths> node_paths_;
  std::unique_ptr<datapath::BpfPolicyMaps> policy_maps_;

  std::map<std::string, observe::Component> components_;
  server::Routes routes_;
  PodTellers pod_ends_;
  Receiver<model::Applied> applied_;
  Receiver<datapath::BackendsGone> backends_gone_;
  Sender<model::PodMtu> pod_mtu_;

  std::unique_ptr<kube::ManifestSource> manifests_;
  std::unique_ptr<kube::ApiSource> api_;
  std::unique_ptr<cri::Client> runtime_;
  std::unique_ptr<health::Client> health_;
  std::unique_ptr<node::NodeReporter> node_reporter_;
  std::unique_ptr<services::SliceController> slice_controller_;
  std::unique_ptr<services::Services> services_;
  std::unique_ptr<policy::Policy> policy_;
  std::unique_ptr<network::Network> network_;
  std::unique_ptr<routing::Routing> routing_;
  std::unique_ptr<pods::Pods> pods_;
  std::unique_ptr<sockets::SocketEnder> socket_ender_;
  std::unique_ptr<flows::Flows> flows_;
  std::unique_ptr<observe::StatusHub> hub_;
  std::unique_ptr<server::LocalServer> local_server_;
  std::vector<std::unique_ptr<server::HttpServer>> http_servers_;
};

}  // namespace fairlead
