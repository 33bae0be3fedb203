// SPDX-License-Identifier: Apache-2.0
#include "agent/agent.h"
#include "agent/base/atomic_file.h"
#include "agent/base/log.h"
#include "agent/base/version.h"
#include "agent/server/notify.h"

namespace fairlead {

namespace {

pods::Allocatable allocatable(const node::MachineFacts& facts) {
  return {.cpu_milli = facts.cpus * 1000,
          .memory_bytes = static_cast<std::int64_t>(node::allocatable_memory(facts)),
          .ephemeral_bytes = static_cast<std::int64_t>(node::allocatable_disk(facts))};
}

}  // namespace

Result<> Agent::build_sockets() {
  FL_LET(socket_memories_, datapath::SocketMemories::open(*sock_programs_));
  socket_ender_ =
      std::make_unique<sockets::SocketEnder>(sockets_thread_.loop(), clock_,
                                             sockets::SocketEnder::Deps{.namespaces = namespaces_table_.reader(),
                                                                        .gone = std::move(backends_gone_),
                                                                        .memories = *socket_memories_,
                                                                        .registry = *registry_});
  return {};
}

Result<> Agent::build_policy() {
  auto [caller, responder] = make_request<Inspect, Json>();
  FL_LET(policy_maps_, datapath::BpfPolicyMaps::open(*pod_programs_));
  policy_ = std::make_unique<policy::Policy>(policy_thread_.loop(), clock_,
                                             policy::Policy::Deps{.node = config_.node_name,
                                                                  .policies = objects_.policies.reader(),
                                                                  .namespaces = objects_.namespaces.reader(),
                                                                  .peers = objects_.peer_pods.reader(),
                                                                  .pods = objects_.pods.reader(),
                                                                  .endpoints = namespaces_table_.reader(),
                                                                  .maps = *policy_maps_,
                                                                  .pod_policies = pod_policies_table_.writer(kPolicy),
                                                                  .registry = *registry_,
                                                                  .inspect = std::move(responder)});
  components_["policy"] = {"policy.sync", caller};
  routes_["policy."] = {caller};
  return {};
}

Result<> Agent::build_network() {
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
          .node = objects_.node.reader(),
          .pods = runs_pods() || uses_manifests() ? std::nullopt : std::optional(objects_.pods.reader()),
          // Where a kubelet runs pods that no manifest tells of, no policy can tell them either.
          .policies = runs_pods() || !uses_manifests() ? std::optional(pod_policies_table_.reader()) : std::nullopt,
          .services = objects_.services.reader(),
          .mtu = std::move(mtu_reader)});
  routes_["cni."] = {caller};
  routes_["endpoint."] = {caller};
  return network_->start();
}

routing::Settings Agent::routing_settings() const {
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
Result<std::uint32_t> Agent::pod_mtu() const {
  FL_LET(netlink::Socket kernel, netlink::Socket::open());
  FL_LET(const routing::Facts facts, routing::read_facts(kernel));
  return routing::pod_mtu(routing_settings(), facts);
}

Result<> Agent::build_routing() {
  auto [caller, responder] = make_request<Inspect, Json>();
  FL_LET(node_paths_, datapath::BpfNodePaths::load(*pod_programs_, *bpf_root_));
  routing_ = std::make_unique<routing::Routing>(routing_thread_.loop(),
                                                routing::Routing::Deps{.settings = routing_settings(),
                                                                       .paths = *node_paths_,
                                                                       .nodes = objects_.nodes.reader(),
                                                                       .inspect = std::move(responder),
                                                                       .registry = *registry_,
                                                                       .pod_mtu = pod_mtu_});
  components_["routing"] = {"routing.sync", caller};
  routes_["node."] = {caller};
  return routing_->start();
}

Result<> Agent::build_flows() {
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

Result<> Agent::build_pods() {
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
                       .pods = objects_.pods.reader(),
                       .config_maps = objects_.config_maps.reader(),
                       .secrets = objects_.secrets.reader(),
                       .services = objects_.services.reader(),
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
  if (api_) build_node_reporter(facts);
  return {};
}

// The node's word to the API server.
void Agent::build_node_reporter(const node::MachineFacts& facts) {
  node_reporter_ = std::make_unique<node::NodeReporter>(
      edge_.loop(), clock_,
      node::NodeReporter::Deps{.api = api_->api(),
                               .runtime = *runtime_,
                               .node = objects_.node.reader(),
                               .registry = *registry_,
                               .identity = {.name = config_.node_name,
                                            .addresses = config_.node_ips,
                                            .agent_version = "v" + std::string(version()),
                                            .labels = config_.node_labels},
                               .facts = facts,
                               .pressures = [this] { return node::read_pressures(config_.state_dir); },
                               .config = {.needs_pod_cidrs = config_.pod_cidrs.empty()}});
}

Result<> Agent::build_front() {
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

}  // namespace fairlead
