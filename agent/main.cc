// SPDX-License-Identifier: Apache-2.0
// fairlead-agent: wiring only. Every module, thread, queue and arrow of the agent is in this file.
//
//   thread     what lives on it
//   main       stop signals, local socket, metrics and health, status hub
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
// Stop: intake first (servers), then the edge, then pods, services, network, policy, routing, sockets, flows;
// threads are joined in that order, and only then is anything destroyed. Pins, devices and pods stay as they are.
#include <cerrno>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>

#include "agent/base/atomic_file.h"
#include "agent/base/channel.h"
#include "agent/base/log.h"
#include "agent/base/loop_thread.h"
#include "agent/base/metrics.h"
#include "agent/base/signals.h"
#include "agent/base/version.h"
#include "agent/config/command_line.h"
#include "agent/config/configuration.h"
#include "agent/config/host_facts.h"
#include "agent/cri/client.h"
#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/bpf_node_paths.h"
#include "agent/datapath/bpf_policy_maps.h"
#include "agent/datapath/bpf_root.h"
#include "agent/datapath/bpf_socket_clients.h"
#include "agent/datapath/conntrack.h"
#include "agent/datapath/dead_sockets.h"
#include "agent/datapath/drop_events.h"
#include "agent/datapath/migration.h"
#include "agent/datapath/pod_programs.h"
#include "agent/datapath/sock_programs.h"
#include "agent/flows/flows.h"
#include "agent/health/client.h"
#include "agent/kube/api/api_source.h"
#include "agent/kube/manifests/manifest_source.h"
#include "agent/model/pod_mtu.h"
#include "agent/model/rows.h"
#include "agent/network/install_cni.h"
#include "agent/network/network.h"
#include "agent/node/node.h"
#include "agent/observe/status_hub.h"
#include "agent/pods/pods.h"
#include "agent/policy/policy.h"
#include "agent/routing/routing.h"
#include "agent/server/http_server.h"
#include "agent/server/local_server.h"
#include "agent/server/notify.h"
#include "agent/services/services.h"
#include "agent/services/slice_controller.h"
#include "agent/sockets/socket_ender.h"
#include "agent/state/table.h"

namespace fairlead {
namespace {

using config::AgentConfiguration;
using config::Mode;

constexpr auto kManifestSource = "manifests";
constexpr auto kStaticSource = "static";
constexpr auto kSliceController = "slice-controller";
constexpr auto kPods = "pods";
constexpr auto kNetwork = "network";
constexpr auto kPolicy = "policy";

std::vector<std::string> sources(std::initializer_list<std::optional<std::string>> named) {
  std::vector<std::string> list;
  for (const auto& name : named) {
    if (name) list.push_back(*name);
  }
  return list;
}

std::vector<Family> families(const std::vector<Cidr>& cidrs) {
  std::vector<Family> list;
  for (const Cidr& cidr : cidrs) list.push_back(cidr.family());
  return list;
}

pods::Allocatable allocatable(const node::MachineFacts& facts) {
  return {.cpu_milli = facts.cpus * 1000,
          .memory_bytes = static_cast<std::int64_t>(node::allocatable_memory(facts)),
          .ephemeral_bytes = static_cast<std::int64_t>(node::allocatable_disk(facts))};
}

// What the pods domain tells, and where it asks, about its pods.
struct PodTellers {
  Sender<model::PodStatusUpdate> statuses;
  Sender<model::EventNote> events;
  Sender<model::StaticPod> static_pods;
  Sender<model::ConfigWant> config_wants;
  Caller<model::TokenAsk, model::ServiceAccountToken> tokens;
};

// The whole agent. Members are in the order in which they are made; the destructor undoes it, after every thread ended.
class Agent {
 public:
  explicit Agent(AgentConfiguration configuration) : config_(std::move(configuration)) {}

  Result<> build() {
    // Before any other thread is, so that all inherit the blocked signals.
    FL_LET(auto signals, StopSignals::create(main_loop_, [this](int) { main_loop_.stop(); }));
    signals_.emplace(std::move(signals));
    FL_TRY(open_datapath());
    FL_TRY(build_source());
    FL_TRY(build_services());
    FL_TRY(build_policy());
    FL_TRY(build_network());
    FL_TRY(build_routing());
    FL_TRY(build_flows());
    if (runs_pods()) FL_TRY(build_pods());
    FL_TRY(build_front());
    return {};
  }

  // Runs until a signal asks to stop.
  Result<> run() {
    FL_TRY(start());
    log::info("agent", "running",
              {{"version", version()}, {"node", config_.node_name}, {"mode", to_string(config_.mode)}});
    main_loop_.run();
    log::info("agent", "stopping");
    stop();
    return {};
  }

 private:
  bool uses_manifests() const { return !config_.manifests.empty(); }
  bool runs_pods() const { return config_.mode == Mode::kNode; }
  bool has_static_pods() const { return runs_pods() && !config_.static_pod_path.empty(); }
  std::string source() const { return uses_manifests() ? kManifestSource : kube::kApiSource; }

  node::Identity identity() const {
    return {.name = config_.node_name,
            .addresses = config_.node_ips,
            .agent_version = "v" + std::string(version()),
            .labels = config_.node_labels};
  }

  // What manifests need not say of this node.
  model::Node manifest_node() const {
    return {
        .name = config_.node_name,
        .uid = {},
        .labels = config_.node_labels,
        .pod_cidrs = config_.pod_cidrs.empty() ? std::vector{*Cidr::parse(config::kDefaultPodCidr)} : config_.pod_cidrs,
        .addresses = config_.node_ips};
  }

  Result<> open_datapath() {
    FL_LET(auto root, datapath::BpfRoot::open(config_.bpf_root));
    bpf_root_.emplace(std::move(root));
    const std::uint32_t connections =
        config::tracked_connections(config_.conntrack, std::max(std::thread::hardware_concurrency(), 1U));
    const datapath::PodCapacities capacities{
        .connections = connections,
        .translated = connections,
        .services = {
            .frontends = config_.max_services, .services = config_.max_services, .backends = config_.max_backends}};
    FL_TRY(datapath::migrate_maps(*bpf_root_, config_.cgroup_root, capacities));
    FL_LET(sock_programs_, datapath::SockPrograms::load(*bpf_root_, capacities.services));
    auto [gone, gone_reader] = make_channel<datapath::BackendsGone>();
    FL_LET(balancer_, datapath::BpfLoadBalancer::open(*sock_programs_, gone));
    FL_LET(dead_sockets_, datapath::DeadSockets::open(*sock_programs_));
    socket_ender_ =
        std::make_unique<sockets::SocketEnder>(sockets_thread_.loop(), clock_,
                                               sockets::SocketEnder::Deps{.namespaces = namespaces_table_.reader(),
                                                                          .gone = std::move(gone_reader),
                                                                          .dead = *dead_sockets_,
                                                                          .registry = *registry_});
    FL_LET(socket_clients_, datapath::BpfSocketClients::open(*sock_programs_));
    FL_LET(pod_programs_, datapath::BpfPodPrograms::load(*bpf_root_, capacities));
    return sock_programs_->attach(config_.cgroup_root);
  }

  Result<> build_source() {
    auto [caller, responder] = make_request<Inspect, Json>();
    if (uses_manifests()) {
      manifests_ = std::make_unique<kube::ManifestSource>(
          edge_.loop(),
          kube::ManifestConfig{
              .directory = config_.manifests, .node = manifest_node(), .state_directory = config_.state_dir},
          kube::ManifestWriters{.services = services_table_.writer(source()),
                                .endpoint_slices = slices_table_.writer(source()),
                                .pods = pods_table_.writer(source()),
                                .config_maps = config_maps_table_.writer(source()),
                                .secrets = secrets_table_.writer(source()),
                                .node = node_table_.writer(source()),
                                .nodes = nodes_table_.writer(source()),
                                .namespaces = cluster_namespaces_table_.writer(source()),
                                .network_policies = policies_table_.writer(source())},
          *registry_, std::move(responder));
      components_["manifests"] = {"manifests.status", caller};
      routes_["manifests."] = {caller};
      peer_pods_table_.writer(source()).set_complete();    // manifests know no address of another node's pods
      std::tie(pod_ends_, std::ignore) = make_pod_ends();  // nobody reads what is told of manifests' pods
      return {};
    }
    FL_LET(kube::ClusterAccess access,
           config_.kubeconfig.empty() ? kube::in_cluster_access() : kube::read_kubeconfig(config_.kubeconfig));
    std::optional<kube::PodEnds> pod_ends;
    if (runs_pods()) std::tie(pod_ends_, pod_ends) = make_pod_ends();
    api_ = std::make_unique<kube::ApiSource>(
        edge_.loop(), kube::ApiSource::Deps{.access = std::move(access),
                                            .node_name = config_.node_name,
                                            .writers = {.services = services_table_.writer(source()),
                                                        .endpoint_slices = slices_table_.writer(source()),
                                                        .pods = pods_table_.writer(source()),
                                                        .node = node_table_.writer(source()),
                                                        .nodes = nodes_table_.writer(source()),
                                                        .namespaces = cluster_namespaces_table_.writer(source()),
                                                        .network_policies = policies_table_.writer(source()),
                                                        .peer_pods = peer_pods_table_.writer(source())},
                                            .pod_ends = std::move(pod_ends),
                                            .inspect = std::move(responder),
                                            .registry = *registry_});
    components_["api"] = {"api.status", caller};
    if (has_static_pods()) build_static_pods();
    return {};
  }

  // Static pods: a folder beside the API server.
  void build_static_pods() {
    auto [caller, responder] = make_request<Inspect, Json>();
    manifests_ = std::make_unique<kube::ManifestSource>(
        edge_.loop(),
        kube::ManifestConfig{.directory = config_.static_pod_path,
                             .node = manifest_node(),
                             .state_directory = config_.state_dir,
                             .static_pods = true},
        kube::ManifestWriters{.pods = pods_table_.writer(kStaticSource)}, *registry_, std::move(responder));
    components_["static-pods"] = {"manifests.status", caller};
    routes_["manifests."] = {caller};
  }

  // The pods domain's ends, and the ends of who speaks to an API server for it.
  std::pair<PodTellers, kube::PodEnds> make_pod_ends() {
    auto [statuses, status_reader] = make_channel<model::PodStatusUpdate>();
    auto [events, event_reader] = make_channel<model::EventNote>();
    auto [static_pods, static_reader] = make_channel<model::StaticPod>();
    auto [config_wants, want_reader] = make_channel<model::ConfigWant>();
    auto [tokens, token_responder] = make_request<model::TokenAsk, model::ServiceAccountToken>();
    return {PodTellers{statuses, events, static_pods, config_wants, tokens},
            kube::PodEnds{.statuses = std::move(status_reader),
                          .events = std::move(event_reader),
                          .static_pods = std::move(static_reader),
                          .config_wants = std::move(want_reader),
                          .config_maps = config_maps_table_.writer(source()),
                          .secrets = secrets_table_.writer(source()),
                          .tokens = std::move(token_responder)}};
  }

  Result<> build_services() {
    auto [caller, responder] = make_request<Inspect, Json>();
    auto [applied, applied_reader] = make_channel<model::Applied>();
    applied_ = std::move(applied_reader);
    std::optional<services::ClusterIpAllocator> addresses;
    if (uses_manifests()) {
      FL_LET(auto allocator,
             services::ClusterIpAllocator::open(config_.service_cidrs, config_.state_dir + "/cluster-ips.json"));
      addresses.emplace(std::move(allocator));
      slice_controller_ = std::make_unique<services::SliceController>(
          services_thread_.loop(), services::SliceController::Deps{.services = services_table_.reader(),
                                                                   .pods = local_pods_table_.reader(),
                                                                   .slices = slices_table_.writer(kSliceController),
                                                                   .node = config_.node_name,
                                                                   .zone = model::zone_of(config_.node_labels),
                                                                   .families = families(config_.service_cidrs)});
    }
    services_ = std::make_unique<services::Services>(services_thread_.loop(), clock_,
                                                     services::Services::Deps{.services = services_table_.reader(),
                                                                              .slices = slices_table_.reader(),
                                                                              .pods = local_pods_table_.reader(),
                                                                              .nodes = node_table_.reader(),
                                                                              .host_ports = host_ports_table_.reader(),
                                                                              .balancer = *balancer_,
                                                                              .applied = applied,
                                                                              .registry = *registry_,
                                                                              .inspect = std::move(responder),
                                                                              .node = config_.node_name,
                                                                              .node_ips = config_.node_ips,
                                                                              .balancing = config_.load_balancing,
                                                                              .addresses = std::move(addresses)});
    components_["services"] = {"services.sync", caller};
    routes_["service."] = {caller};
    routes_["backend."] = {caller};
    return {};
  }

  routing::Settings routing_settings() const {
    const config::PathSettings& paths = config_.paths;
    routing::Settings out{.node = config_.node_name, .node_ips = config_.node_ips};
    if (paths.tunnel == config::Tunnel::kVxlan) {
      out.tunnel = {.port = static_cast<std::uint16_t>(paths.vxlan_port), .vni = paths.vxlan_vni};
    }
    out.uplinks = paths.uplinks;
    out.masquerade = paths.masquerade;
    out.non_masquerade = paths.non_masquerade_cidrs;
    out.first_port = paths.masquerade_ports.first;
    out.last_port = paths.masquerade_ports.last;
    return out;
  }

  // As large as uplinks and tunnel let pods' packets be, now.
  Result<std::uint32_t> pod_mtu() const {
    FL_LET(netlink::Socket kernel, netlink::Socket::open());
    FL_LET(const routing::Facts facts, routing::read_facts(kernel));
    return routing::pod_mtu(routing_settings(), facts);
  }

  Result<> build_routing() {
    auto [caller, responder] = make_request<Inspect, Json>();
    FL_LET(node_paths_, datapath::BpfNodePaths::load(*pod_programs_, *bpf_root_));
    routing_ = std::make_unique<routing::Routing>(routing_thread_.loop(),
                                                  routing::Routing::Deps{.settings = routing_settings(),
                                                                         .paths = *node_paths_,
                                                                         .nodes = nodes_table_.reader(),
                                                                         .inspect = std::move(responder),
                                                                         .registry = *registry_,
                                                                         .pod_mtu = pod_mtu_});
    components_["routing"] = {"routing.sync", caller};
    routes_["node."] = {caller};
    return routing_->start();
  }

  Result<> build_policy() {
    auto [caller, responder] = make_request<Inspect, Json>();
    FL_LET(policy_maps_, datapath::BpfPolicyMaps::open(*pod_programs_));
    policy_ = std::make_unique<policy::Policy>(policy_thread_.loop(), clock_,
                                               policy::Policy::Deps{.node = config_.node_name,
                                                                    .policies = policies_table_.reader(),
                                                                    .namespaces = cluster_namespaces_table_.reader(),
                                                                    .peers = peer_pods_table_.reader(),
                                                                    .pods = pods_table_.reader(),
                                                                    .endpoints = namespaces_table_.reader(),
                                                                    .maps = *policy_maps_,
                                                                    .pod_policies = pod_policies_table_.writer(kPolicy),
                                                                    .registry = *registry_,
                                                                    .inspect = std::move(responder)});
    components_["policy"] = {"policy.sync", caller};
    routes_["policy."] = {caller};
    return {};
  }

  Result<> build_network() {
    auto [caller, responder] = make_request<Inspect, Json>();
    FL_LET(const std::uint32_t mtu, pod_mtu());
    auto [mtu_sender, mtu_reader] = make_channel<model::PodMtu>();
    pod_mtu_ = mtu_sender;
    network_ = std::make_unique<network::Network>(
        network_thread_.loop(), clock_,
        network::Network::Deps{
            .config = {.pod_cidrs = config_.pod_cidrs,
                       .node_ips = config_.node_ips,
                       .mtu = mtu,
                       .state_dir = config_.state_dir,
                       .run_dir = config_.run_dir},
            .programs = *pod_programs_,
            .sockets = *socket_clients_,
            .namespaces = namespaces_table_.writer(kNetwork),
            .host_ports = host_ports_table_.writer(kNetwork),
            .requests = std::move(responder),
            .registry = *registry_,
            .node = node_table_.reader(),
            .pods = runs_pods() || uses_manifests() ? std::nullopt : std::optional(pods_table_.reader()),
            // Where a kubelet runs pods that no manifest tells of, no policy can tell them either.
            .policies = runs_pods() || !uses_manifests() ? std::optional(pod_policies_table_.reader()) : std::nullopt,
            .services = services_table_.reader(),
            .mtu = std::move(mtu_reader)});
    routes_["cni."] = {caller};
    routes_["endpoint."] = {caller};
    return network_->start();
  }

  Result<> build_flows() {
    FL_LET(conntrack_, datapath::Conntrack::open(*pod_programs_));
    FL_TRY(conntrack_->configure(config_.conntrack));
    FL_LET(drops_, datapath::DropEvents::open(*pod_programs_));
    auto [caller, responder] = make_request<Inspect, Json>();
    flows_ = std::make_unique<flows::Flows>(flows_thread_.loop(), clock_,
                                            flows::Flows::Deps{.conntrack = *conntrack_,
                                                               .drops = *drops_,
                                                               .namespaces = namespaces_table_.reader(),
                                                               .services = routes_.at("service.").module,
                                                               .inspect = std::move(responder),
                                                               .registry = *registry_});
    components_["conntrack"] = {"conntrack.sync", caller};
    routes_["conntrack."] = {caller};
    routes_["monitor."] = {caller};
    return {};
  }

  Result<> build_pods() {
    auto [caller, responder] = make_request<Inspect, Json>();
    FL_LET(runtime_, cri::Client::create(config_.runtime_endpoint));
    health_ = std::make_unique<health::Client>(pods_thread_.loop());
    const std::string mountinfo = read_file("/proc/self/mountinfo").value_or("");
    const node::MachineFacts facts = node::read_machine_facts(config_.state_dir);
    pods_ = std::make_unique<pods::Pods>(
        pods_thread_.loop(), clock_,
        pods::Pods::Deps{.config = {.node_name = config_.node_name,
                                    .node_ips = config_.node_ips,
                                    .state_dir = config_.state_dir,
                                    .log_root = config_.log_root,
                                    .cgroup_prefix = config_.cgroup_prefix,
                                    .cgroup_roots = pods::Cgroups::find_roots(mountinfo),
                                    .allocatable = allocatable(facts),
                                    .dns = {config_.cluster_dns, config_.cluster_domain, config_.resolv_conf},
                                    .configs_on_demand = !uses_manifests(),
                                    .drain_delay = config_.drain_delay},
                         .pods = pods_table_.reader(),
                         .config_maps = config_maps_table_.reader(),
                         .secrets = secrets_table_.reader(),
                         .services = services_table_.reader(),
                         .runtime = *runtime_,
                         .health = *health_,
                         .local_pods = local_pods_table_.writer(kPods),
                         .applied = std::move(applied_),
                         .statuses = pod_ends_.statuses,
                         .config_wants = pod_ends_.config_wants,
                         .events = pod_ends_.events,
                         .static_pods = pod_ends_.static_pods,
                         .tokens = uses_manifests() ? std::nullopt : std::optional(pod_ends_.tokens),
                         .api_source = uses_manifests() ? "" : kube::kApiSource,
                         .requests = std::move(responder),
                         .registry = *registry_});
    components_["pods"] = {"pods.sync", caller};
    routes_["pod."] = {caller};
    if (!api_) return {};
    node_reporter_ = std::make_unique<node::NodeReporter>(
        edge_.loop(), clock_,
        node::NodeReporter::Deps{.api = api_->api(),
                                 .runtime = *runtime_,
                                 .node = node_table_.reader(),
                                 .registry = *registry_,
                                 .identity = identity(),
                                 .facts = facts,
                                 .pressures = [this] { return node::read_pressures(config_.state_dir); },
                                 .config = {.needs_pod_cidrs = config_.pod_cidrs.empty()}});
    return {};
  }

  Result<> build_front() {
    auto [caller, responder] = make_request<Inspect, Json>();
    hub_ = std::make_unique<observe::StatusHub>(
        main_loop_, clock_,
        observe::StatusHub::Deps{.components = components_,
                                 .inspect = std::move(responder),
                                 .registry = *registry_,
                                 .node = config_.node_name,
                                 .configuration = to_json(config_),
                                 .on_serving = [] {
                                   if (const auto told = server::notify_systemd("READY=1"); !told) {
                                     log::warn("agent", "systemd was not told", {{"error", told.error()}});
                                   }
                                 }});
    for (const char* op : {"status", "config.get", "version"}) routes_[op] = {caller};
    local_server_ = std::make_unique<server::LocalServer>(main_loop_, config_.socket_path(), routes_);
    constexpr auto kPatience = std::chrono::seconds(3);
    const auto health = [&](const char* op) { return server::health_handler(main_loop_, caller, op, kPatience); };
    if (config_.metrics_bind_address) {
      http_servers_.push_back(std::make_unique<server::HttpServer>(
          main_loop_, std::map<std::string, server::HttpHandler>{{"/metrics", server::metrics_handler(registry_)}}));
      FL_TRY(http_servers_.back()->start(*config_.metrics_bind_address));
    }
    if (config_.healthz_bind_address) {
      http_servers_.push_back(std::make_unique<server::HttpServer>(
          main_loop_, std::map<std::string, server::HttpHandler>{{"/healthz", health("health.proxy")},
                                                                 {"/livez", health("health.live")},
                                                                 {"/readyz", health("health.ready")}}));
      FL_TRY(http_servers_.back()->start(*config_.healthz_bind_address));
    }
    return {};
  }

  Result<> start() {
    FL_TRY(local_server_->start());  // the CNI plugin may ask from now on
    if (manifests_) manifests_->start();
    if (api_) api_->start();
    if (node_reporter_) node_reporter_->start();
    if (pods_) pods_->start();
    flows_->start();
    hub_->start();
    for (LoopThread* thread : threads_) thread->start();
    return {};
  }

  void stop() {
    if (const auto told = server::notify_systemd("STOPPING=1"); !told) {
      log::warn("agent", "systemd was not told", {{"error", told.error()}});
    }
    http_servers_.clear();
    local_server_.reset();
    for (LoopThread* thread : threads_) thread->join();
  }

  AgentConfiguration config_;
  SystemClock clock_;
  std::shared_ptr<metrics::Registry> registry_ = std::make_shared<metrics::Registry>();

  Loop main_loop_;
  std::optional<StopSignals> signals_;
  LoopThread edge_{"edge"}, pods_thread_{"pods"}, services_thread_{"services"}, network_thread_{"network"},
      policy_thread_{"policy"}, routing_thread_{"routing"}, sockets_thread_{"sockets"}, flows_thread_{"flows"};
  const std::vector<LoopThread*> threads_{&edge_,           &pods_thread_,   &services_thread_,
                                          &network_thread_, &policy_thread_, &routing_thread_,
                                          &sockets_thread_, &flows_thread_};  // in stop order

  state::Table<model::Service> services_table_{{source()}};
  state::Table<model::EndpointSlice> slices_table_{
      sources({source(), uses_manifests() ? std::optional<std::string>(kSliceController) : std::nullopt})};
  state::Table<model::Pod> pods_table_{
      sources({source(), has_static_pods() ? std::optional<std::string>(kStaticSource) : std::nullopt})};
  state::Table<model::ConfigData> config_maps_table_{{source()}};
  state::Table<model::ConfigData> secrets_table_{{source()}};
  state::Table<model::Node> node_table_{{source()}};
  state::Table<model::Node> nodes_table_{{source()}};
  state::Table<model::LocalPod> local_pods_table_{
      sources({runs_pods() ? std::optional<std::string>(kPods) : std::nullopt})};
  state::Table<model::ServedNetns> namespaces_table_{{kNetwork}};
  state::Table<model::Namespace> cluster_namespaces_table_{{source()}};
  state::Table<model::NetworkPolicy> policies_table_{{source()}};
  state::Table<model::PeerPod> peer_pods_table_{{source()}};
  state::Table<model::PodPolicy> pod_policies_table_{{kPolicy}};
  state::Table<model::HostPort> host_ports_table_{{kNetwork}};

  std::optional<datapath::BpfRoot> bpf_root_;
  std::unique_ptr<datapath::SockPrograms> sock_programs_;
  std::unique_ptr<datapath::BpfLoadBalancer> balancer_;
  std::unique_ptr<datapath::BpfSocketClients> socket_clients_;
  std::unique_ptr<datapath::DeadSockets> dead_sockets_;
  std::unique_ptr<datapath::BpfPodPrograms> pod_programs_;
  std::unique_ptr<datapath::Conntrack> conntrack_;
  std::unique_ptr<datapath::DropEvents> drops_;
  std::unique_ptr<datapath::BpfNodePaths> node_paths_;
  std::unique_ptr<datapath::BpfPolicyMaps> policy_maps_;

  std::map<std::string, observe::Component> components_;
  server::Routes routes_;
  PodTellers pod_ends_;
  Receiver<model::Applied> applied_;
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

Result<> run_agent(const AgentConfiguration& configuration) {
  std::error_code error;
  for (const std::string& folder : {configuration.state_dir, configuration.run_dir}) {
    std::filesystem::create_directories(folder, error);
    if (error) return fail_errno(error.value(), "make folder " + folder);
  }
  Agent agent(configuration);
  FL_TRY(agent.build());
  return agent.run();
}

Result<> install_cni(const AgentConfiguration& configuration) {
  const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  return network::install_cni(configuration.cni_bin_dir, configuration.cni_conf_dir, configuration.run_dir,
                              here / "fairlead-cni");
}

// Refused while an agent runs: it holds the bpf root.
Result<> cleanup(const AgentConfiguration& configuration) {
  FL_LET(const datapath::BpfRoot root, datapath::BpfRoot::open(configuration.bpf_root));
  return root.clear();
}

int main_with(const config::CommandLine& line) {
  if (line.command == config::Command::kVersion) {
    std::cout << "fairlead-agent " << version() << '\n';
    return 0;
  }
  const auto configuration = config::load(line.settings, config::read_host_facts());
  if (!configuration) {
    std::cerr << "fairlead-agent: " << configuration.error().message() << '\n';
    return 2;
  }
  log::configure(configuration->log_level, configuration->log_format);
  for (const std::string& place : configuration->without_effect) {
    log::warn("agent", "field is without effect", {{"field", place}});
  }
  Result<> result;
  switch (line.command) {
    case config::Command::kRun:
      result = run_agent(*configuration);
      break;
    case config::Command::kInstallCni:
      result = install_cni(*configuration);
      break;
    case config::Command::kCleanup:
      result = cleanup(*configuration);
      break;
    case config::Command::kVersion:
      break;
  }
  if (result) return 0;
  log::error("agent", "ended", {{"error", result.error()}});
  return 1;
}

}  // namespace
}  // namespace fairlead

int main(int argc, char** argv) {
  const auto line = fairlead::config::parse_command_line(argc, argv, std::cout, std::cerr);
  return line ? fairlead::main_with(*line) : line.error();
}
