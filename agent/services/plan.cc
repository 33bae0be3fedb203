// SPDX-License-Identifier: Apache-2.0
#include "agent/services/plan.h"

#include <algorithm>

namespace fairlead::services {
namespace {

// An endpoint on its way to being planned.
struct Candidate {
  PlannedBackend planned;
  const model::Endpoint* listed = nullptr;
};

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

using Candidates = std::map<datapath::Backend, Candidate>;

Candidates gather(const model::Service& service, const model::ServicePort& port, Family family,
                  const EndpointSlices& slices, const LocalPods& local) {
  Candidates merged;
  const auto add = [&](Candidate candidate) {
    auto [at, fresh] = merged.try_emplace(candidate.planned.backend, candidate);
    if (!fresh && fitness(at->second.planned) < fitness(candidate.planned)) at->second = std::move(candidate);
  };
  for (const auto& slice : slices) {
    if (slice->family != family) continue;
    for (const model::EndpointPort& target : slice->ports) {
      if (target.name != port.name || target.protocol != port.protocol || target.port == 0) continue;
      for (const model::Endpoint& listed : slice->endpoints) {
        if (listed.address.family() != family) continue;
        Candidate candidate{.planned = {.backend = {listed.address, target.port},
                                        .ready = listed.ready,
                                        .serving = listed.serving,
                                        .terminating = listed.terminating,
                                        .active = false,
                                        .target_uid = listed.target_uid,
                                        .node = listed.node,
                                        .zone = listed.zone},
                            .listed = &listed};
        const auto pod = listed.target_uid.empty() ? local.end() : local.find(listed.target_uid);
        if (pod == local.end() || apply_local(service, *pod->second, candidate.planned)) add(std::move(candidate));
      }
    }
  }
  return merged;
}

// Whether the endpoints' hints of one kind are to be followed by who is `self`.
bool follow_hints(const Candidates& candidates, std::vector<std::string> model::Endpoint::* hints,
                  const std::string& self) {
  bool any = false;
  for (const auto& [backend, candidate] : candidates) {
    if (!candidate.planned.ready) continue;
    if (!candidate.listed->ready) {
      any = true;  // made ready here
      continue;
    }
    const auto& names = candidate.listed->*hints;
    if (names.empty()) return false;
    any = any || std::ranges::find(names, self) != names.end();
  }
  return any;
}

bool is_hinted(const Candidate& candidate, std::vector<std::string> model::Endpoint::* hints, const std::string& self) {
  const auto& names = candidate.listed->*hints;
  return !candidate.listed->ready || std::ranges::find(names, self) != names.end();
}

// Marks as active whom `may` admits: the ready, or where there are none, those that serve while they terminate.
template <class May>
void activate(Candidates& candidates, May may) {
  int best = 1;  // endpoints less fit than this never serve
  for (const auto& [backend, candidate] : candidates) {
    if (may(candidate)) best = std::max(best, fitness(candidate.planned));
  }
  for (auto& [backend, candidate] : candidates) {
    candidate.planned.active = may(candidate) && fitness(candidate.planned) == best;
  }
}

void weigh(const model::Service& service, Candidates& candidates) {
  if (service.zone_weights.empty()) return;
  bool any = false;
  for (auto& [backend, candidate] : candidates) {
    const auto weight = service.zone_weights.find(candidate.planned.zone);
    candidate.planned.weight = weight == service.zone_weights.end() ? 1 : weight->second;
    any = any || (candidate.planned.active && candidate.planned.weight != 0);
  }
  for (auto& [backend, candidate] : candidates) {
    if (candidate.planned.weight != 0) continue;
    candidate.planned.active = candidate.planned.active && !any;
    candidate.planned.weight = 1;
  }
}

}  // namespace

bool is_served(const model::Service& service) {
  return !service.headless && !service.other_proxy && service.type != model::ServiceType::kExternalName;
}

std::string entry_name(const model::Service& service, const model::ServicePort& port, Family family) {
  return fmt::format("{}:{}/{}/{}", service.id.key(), port.port, to_string(port.protocol), static_cast<int>(family));
}

Balancing balancing_of(const model::Service& service, const Site& site) {
  return service.balancing.value_or(site.balancing);
}

std::vector<PlannedBackend> compute_backends(const model::Service& service, const model::ServicePort& port,
                                             Family family, const EndpointSlices& slices, const LocalPods& local,
                                             const Site& site) {
  Candidates candidates = gather(service, port, family, slices, local);
  const auto follow = [&](auto hints, const std::string& self) {
    if (!follow_hints(candidates, hints, self)) return false;
    activate(candidates, [&](const Candidate& each) { return each.planned.ready && is_hinted(each, hints, self); });
    return true;
  };
  if (service.internal_local) {
    activate(candidates, [&](const Candidate& each) { return each.planned.node == site.node; });
  } else if (!follow(&model::Endpoint::node_hints, site.node) && !follow(&model::Endpoint::zone_hints, site.zone)) {
    activate(candidates, [](const Candidate&) { return true; });
  }
  weigh(service, candidates);
  std::vector<PlannedBackend> backends;
  backends.reserve(candidates.size());
  for (auto& [backend, candidate] : candidates) backends.push_back(std::move(candidate.planned));
  return backends;
}

ServicePlan compute_service_plan(const model::Service& service, const EndpointSlices& slices, const LocalPods& local,
                                 const Site& site) {
  ServicePlan plan;
  if (!is_served(service)) return plan;
  for (const Family family : {Family::kV4, Family::kV6}) {
    std::vector<IpAddress> addresses;
    std::ranges::copy_if(service.cluster_ips, std::back_inserter(addresses),
                         [&](const IpAddress& address) { return address.family() == family; });
    if (addresses.empty()) continue;
    std::ranges::sort(addresses);
    for (const model::ServicePort& port : service.ports) {
      datapath::ServiceEntry entry{.frontends = {},
                                   .backends = {},
                                   .affinity_timeout_s = service.affinity_timeout_s,
                                   .balancing = balancing_of(service, site)};
      for (const IpAddress& address : addresses) entry.frontends.push_back({address, port.port, port.protocol});
      for (const PlannedBackend& endpoint : compute_backends(service, port, family, slices, local, site)) {
        (endpoint.active ? entry.backends : entry.draining).push_back(endpoint.backend);
        if (endpoint.active && !service.zone_weights.empty()) entry.weights.push_back(endpoint.weight);
      }
      plan.entries.emplace(entry_name(service, port, family), std::move(entry));
    }
  }
  return plan;
}

}  // namespace fairlead::services
