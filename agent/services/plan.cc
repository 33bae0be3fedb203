// SPDX-License-Identifier: Apache-2.0
#include "agent/services/plan.h"

#include <algorithm>

namespace fairlead::services {
namespace {

// The endpoint's conditions once the pod's own node has had its say. False: it is not an endpoint any more.
bool apply_local(const model::Service& service, const model::LocalPod& pod, PlannedBackend& endpoint) {
  if (pod.terminal) return false;
  endpoint.terminating = endpoint.terminating || pod.terminating;
  endpoint.serving = pod.serving;
  endpoint.ready = service.publish_not_ready || (pod.ready && !endpoint.terminating);
  return true;
}

// How fit an endpoint is for new connections; also kube-proxy's order of preference.
int fitness(const PlannedBackend& endpoint) {
  if (endpoint.ready) return 2;
  return endpoint.serving && endpoint.terminating ? 1 : 0;
}

std::string entry_name(const model::Service& service, const model::ServicePort& port, Family family) {
  return fmt::format("{}:{}/{}/{}", service.id.key(), port.port, to_string(port.protocol), static_cast<int>(family));
}

}  // namespace

std::vector<PlannedBackend> compute_backends(const model::Service& service, const model::ServicePort& port,
                                             Family family, const EndpointSlices& slices, const LocalPods& local) {
  std::map<datapath::Backend, PlannedBackend> merged;
  int best = 1;  // endpoints less fit than this never serve
  const auto add = [&](PlannedBackend endpoint) {
    best = std::max(best, fitness(endpoint));
    auto [at, fresh] = merged.try_emplace(endpoint.backend, endpoint);
    if (!fresh && fitness(at->second) < fitness(endpoint)) at->second = std::move(endpoint);
  };
  for (const auto& slice : slices) {
    if (slice->family != family) continue;
    for (const model::EndpointPort& target : slice->ports) {
      if (target.name != port.name || target.protocol != port.protocol || target.port == 0) continue;
      for (const model::Endpoint& listed : slice->endpoints) {
        if (listed.address.family() != family) continue;
        PlannedBackend endpoint{.backend = {listed.address, target.port},
                                .ready = listed.ready,
                                .serving = listed.serving,
                                .terminating = listed.terminating,
                                .active = false,
                                .target_uid = listed.target_uid};
        const auto pod = listed.target_uid.empty() ? local.end() : local.find(listed.target_uid);
        if (pod == local.end() || apply_local(service, *pod->second, endpoint)) add(std::move(endpoint));
      }
    }
  }
  std::vector<PlannedBackend> backends;
  backends.reserve(merged.size());
  for (auto& [backend, endpoint] : merged) {
    endpoint.active = fitness(endpoint) == best;
    backends.push_back(std::move(endpoint));
  }
  return backends;
}

ServicePlan compute_service_plan(const model::Service& service, const EndpointSlices& slices, const LocalPods& local) {
  ServicePlan plan;
  if (service.headless || service.type == model::ServiceType::kExternalName) return plan;
  for (const Family family : {Family::kV4, Family::kV6}) {
    std::vector<IpAddress> addresses;
    std::ranges::copy_if(service.cluster_ips, std::back_inserter(addresses),
                         [&](const IpAddress& address) { return address.family() == family; });
    if (addresses.empty()) continue;
    std::ranges::sort(addresses);
    for (const model::ServicePort& port : service.ports) {
      std::string name = entry_name(service, port, family);
      if (port.protocol == Protocol::kSctp) {
        plan.unsupported.push_back(std::move(name));
        continue;
      }
      datapath::ServiceEntry entry{.frontends = {}, .backends = {}, .affinity_timeout_s = service.affinity_timeout_s};
      for (const IpAddress& address : addresses) entry.frontends.push_back({address, port.port, port.protocol});
      for (const PlannedBackend& endpoint : compute_backends(service, port, family, slices, local)) {
        if (endpoint.active) entry.backends.push_back(endpoint.backend);
      }
      plan.entries.emplace(std::move(name), std::move(entry));
    }
  }
  return plan;
}

}  // namespace fairlead::services
