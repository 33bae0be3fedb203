// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <thread>
#include <tuple>

#include "agent/agent.h"
#include "agent/config/host_facts.h"
#include "agent/datapath/migration.h"
#include "agent/netlink/netns.h"
#include "bpf/abi/service.h"

namespace fairlead {

namespace {

std::vector<Family> families(const std::vector<Cidr>& cidrs) {
  std::vector<Family> list;
  for (const Cidr& cidr : cidrs) list.push_back(cidr.family());
  return list;
}

}  // namespace

datapath::PodCapacities Agent::capacities() const {
  const std::uint32_t connections =
      config::tracked_connections(config_.conntrack, std::max(std::thread::hardware_concurrency(), 1U));
  return {.connections = connections,
          .translated = connections,
          // All homes are there, however few Services: they are used here and there, and could not become fewer.
          .services = {.frontends = config_.max_services,
                       .services = std::max(config_.max_services, std::uint32_t{SERVICE_HOMES}),
                       .backends = config_.max_backends}};
}

// What manifests need not say of this node.
model::Node Agent::manifest_node() const {
  return {
      .name = config_.node_name,
      .uid = {},
      .labels = config_.node_labels,
      .pod_cidrs = config_.pod_cidrs.empty() ? std::vector{*Cidr::parse(config::kDefaultPodCidr)} : config_.pod_cidrs,
      .addresses = config_.node_ips};
}

Result<> Agent::load_sockets() {
  FL_LET(auto root, datapath::BpfRoot::open(config_.bpf_root));
  bpf_root_.emplace(std::move(root));
  FL_TRY(datapath::migrate_maps(*bpf_root_, config_.cgroup_root, capacities()));
  FL_LET(sock_programs_, datapath::SockPrograms::load(*bpf_root_, capacities().services));
  FL_TRY(sock_programs_->attach(config_.cgroup_root));
  // The node's own sockets get Services as soon as these are in force; pods' do once the network domain is there.
  FL_LET(socket_clients_, datapath::BpfSocketClients::open(*sock_programs_));
  FL_LET(const std::uint64_t own, netlink::own_netns_cookie());
  return socket_clients_->admit(own, config_.node_ips);
}

Result<> Agent::build_source() {
  auto [caller, responder] = make_request<Inspect, Json>();
  if (!uses_manifests()) {
    components_["api"] = {"api.status", caller};
    return build_api(std::move(responder));
  }
  components_["manifests"] = {"manifests.status", caller};
  routes_["manifests."] = {caller};
  build_manifests(std::move(responder));
  return {};
}

void Agent::build_manifests(Responder<Inspect, Json> inspect) {
  manifests_ = std::make_unique<kube::ManifestSource>(
      edge_.loop(),
      kube::ManifestConfig{
          .directory = config_.manifests, .node = manifest_node(), .state_directory = config_.state_dir},
      objects_.manifest_writers(), *registry_, std::move(inspect));
  objects_.peer_pods.writer(source()).set_complete();  // nobody writes any
  std::tie(pod_ends_, std::ignore) = make_pod_ends();  // nobody reads what is told of manifests' pods
}

Result<> Agent::build_api(Responder<Inspect, Json> inspect) {
  FL_LET(kube::ClusterAccess access,
         config_.kubeconfig.empty() ? kube::in_cluster_access() : kube::read_kubeconfig(config_.kubeconfig));
  std::optional<kube::PodEnds> pod_ends;
  if (runs_pods()) std::tie(pod_ends_, pod_ends) = make_pod_ends();
  api_ = std::make_unique<kube::ApiSource>(edge_.loop(), kube::ApiSource::Deps{.access = std::move(access),
                                                                               .node_name = config_.node_name,
                                                                               .writers = objects_.api_writers(),
                                                                               .pod_ends = std::move(pod_ends),
                                                                               .inspect = std::move(inspect),
                                                                               .registry = *registry_});
  if (has_static_pods()) build_static_pods();
  return {};
}

// Static pods: a folder beside the API server.
void Agent::build_static_pods() {
  auto [caller, responder] = make_request<Inspect, Json>();
  manifests_ = std::make_unique<kube::ManifestSource>(
      edge_.loop(),
      kube::ManifestConfig{.directory = config_.static_pod_path,
                           .node = manifest_node(),
                           .state_directory = config_.state_dir,
                           .static_pods = true},
      kube::ManifestWriters{.pods = objects_.pods.writer(kStaticSource)}, *registry_, std::move(responder));
  components_["static-pods"] = {"manifests.status", caller};
  routes_["manifests."] = {caller};
}

// The pods domain's ends, and the ends of who speaks to an API server for it.
std::pair<PodTellers, kube::PodEnds> Agent::make_pod_ends() {
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
                        .config_maps = objects_.config_maps.writer(source()),
                        .secrets = objects_.secrets.writer(source()),
                        .tokens = std::move(token_responder)}};
}

Result<> Agent::build_services() {
  auto [caller, responder] = make_request<Inspect, Json>();
  auto [applied, applied_reader] = make_channel<model::Applied>();
  applied_ = std::move(applied_reader);
  auto [gone, gone_reader] = make_channel<datapath::BackendsGone>();
  backends_gone_ = std::move(gone_reader);
  FL_LET(balancer_, datapath::BpfLoadBalancer::open(*sock_programs_, gone));
  std::optional<services::ClusterIpAllocator> addresses;
  if (uses_manifests()) {
    FL_LET(auto allocator,
           services::ClusterIpAllocator::open(config_.service_cidrs, config_.state_dir + "/cluster-ips.json"));
    addresses.emplace(std::move(allocator));
    slice_controller_ = std::make_unique<services::SliceController>(
        services_thread_.loop(), services::SliceController::Deps{.services = objects_.services.reader(),
                                                                 .pods = local_pods_table_.reader(),
                                                                 .slices = objects_.slices.writer(kSliceController),
                                                                 .node = config_.node_name,
                                                                 .zone = model::zone_of(config_.node_labels),
                                                                 .families = families(config_.service_cidrs)});
  }
  services_ = std::make_unique<services::Services>(services_thread_.loop(), clock_,
                                                   services::Services::Deps{.services = objects_.services.reader(),
                                                                            .slices = objects_.slices.reader(),
                                                                            .pods = local_pods_table_.reader(),
                                                                            .nodes = objects_.node.reader(),
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

}  // namespace fairlead
