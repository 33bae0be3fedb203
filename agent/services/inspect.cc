// SPDX-License-Identifier: Apache-2.0
#include "agent/services/inspect.h"

#include <algorithm>

namespace fairlead::services {
namespace {

std::string_view type_name(model::ServiceType type) {
  switch (type) {
    case model::ServiceType::kClusterIp:
      return "ClusterIP";
    case model::ServiceType::kNodePort:
      return "NodePort";
    case model::ServiceType::kLoadBalancer:
      return "LoadBalancer";
    case model::ServiceType::kExternalName:
      return "ExternalName";
  }
  return "";
}

std::string_view backend_state(const PlannedBackend& backend) {
  if (backend.active) return "active";
  if (backend.terminating) return "terminating";
  return backend.ready ? "unused" : "not-ready";
}

std::string_view distribution_name(model::TrafficDistribution distribution) {
  switch (distribution) {
    case model::TrafficDistribution::kAll:
      return "";
    case model::TrafficDistribution::kSameZone:
      return "PreferSameZone";
    case model::TrafficDistribution::kSameNode:
      return "PreferSameNode";
  }
  return "";
}

Json port_json(const model::ServicePort& port) {
  Json json{
      {"name", port.name}, {"port", port.port}, {"protocol", to_string(port.protocol)}, {"node_port", port.node_port}};
  std::visit([&](const auto& target) { json["target_port"] = target; }, port.target);
  return json;
}

Json backend_json(const PlannedBackend& backend, const datapath::ServiceUse::OfBackend& use) {
  return {{"address", backend.backend.address.str()},
          {"port", backend.backend.port},
          {"ready", backend.ready},
          {"serving", backend.serving},
          {"terminating", backend.terminating},
          {"pod_uid", backend.target_uid},
          {"node", backend.node},
          {"zone", backend.zone},
          {"weight", backend.weight},
          {"state", backend_state(backend)},
          {"hits", use.hits},
          {"open", use.open}};
}

// What the Service is, with its addresses where it has them.
const model::Service& service_of(const ServiceState& state) {
  return state.effective ? *state.effective : *state.declared;
}

Json service_json(const std::string& key, const ServiceState& state, const Known& known) {
  const model::Service& service = service_of(state);
  Json addresses = Json::array();
  for (const IpAddress& address : service.cluster_ips) addresses.push_back(address.str());
  Json ports = Json::array();
  for (const model::ServicePort& port : service.ports) ports.push_back(port_json(port));
  const auto error = known.failing.find(key);
  return {{"namespace", service.id.ns},
          {"name", service.id.name},
          {"type", type_name(service.type)},
          {"headless", service.headless},
          {"other_proxy", service.other_proxy},
          {"cluster_ips", std::move(addresses)},
          {"ports", std::move(ports)},
          {"backends", state.backends},
          {"affinity_timeout_seconds", service.affinity_timeout_s},
          {"balancing", to_string(balancing_of(service, known.site))},
          {"internal_traffic_policy", service.internal_local ? "Local" : "Cluster"},
          {"traffic_distribution", distribution_name(service.distribution)},
          {"error", error == known.failing.end() ? "" : error->second.message()}};
}

// One Service port as it is used: of every family in which the Service has an address.
struct PortUse {
  std::uint64_t hits = 0;
  std::vector<std::pair<PlannedBackend, datapath::ServiceUse::OfBackend>> backends;
};

PortUse port_use(const ServiceState& state, const model::ServicePort& port, const Known& known) {
  const model::Service& service = service_of(state);
  PortUse all;
  if (!is_served(service)) return all;
  for (const Family family : {Family::kV4, Family::kV6}) {
    if (std::ranges::find(service.cluster_ips, family, &IpAddress::family) == service.cluster_ips.end()) continue;
    const datapath::ServiceUse counted = known.balancer.use(entry_name(service, port, family));
    all.hits += counted.hits;
    for (auto& backend : compute_backends(service, port, family, state.slice_list(), known.index.pods(), known.site)) {
      const auto use = std::ranges::find(counted.backends, backend.backend, &datapath::ServiceUse::OfBackend::backend);
      all.backends.emplace_back(std::move(backend),
                                use == counted.backends.end() ? datapath::ServiceUse::OfBackend{} : *use);
    }
  }
  return all;
}

Json service_details(const std::string& key, const ServiceState& state, const Known& known) {
  const model::Service& service = service_of(state);
  Json json = service_json(key, state, known);
  json["uid"] = service.id.uid;
  json["selector"] = service.selector;
  json["publish_not_ready"] = service.publish_not_ready;
  json["zone_weights"] = service.zone_weights;
  json["unread"] = service.unread;
  for (std::size_t i = 0; i < service.ports.size(); ++i) {
    const PortUse use = port_use(state, service.ports[i], known);
    json["ports"][i]["hits"] = use.hits;
    Json& backends = json["ports"][i]["backends"] = Json::array();
    for (const auto& [backend, counted] : use.backends) backends.push_back(backend_json(backend, counted));
  }
  return json;
}

void append_backends(Json& list, const ServiceState& state, const Known& known) {
  const model::Service& service = service_of(state);
  for (const model::ServicePort& port : service.ports) {
    for (const auto& [backend, counted] : port_use(state, port, known).backends) {
      Json json = backend_json(backend, counted);
      json["namespace"] = service.id.ns;
      json["service"] = service.id.name;
      json["service_port"] = port.port;
      json["protocol"] = to_string(port.protocol);
      json["port_name"] = port.name;
      list.push_back(std::move(json));
    }
  }
}

// The text of an optional argument.
Result<std::string> argument(const Inspect& request, const char* name, std::string otherwise = "") {
  if (!request.args.is_object() || !request.args.contains(name)) return otherwise;
  const Json& value = request.args[name];
  if (!value.is_string()) return fail(Code::kInvalid, "{}: {}: a string is expected", request.op, name);
  return value.get<std::string>();
}

}  // namespace

Result<Json> answer(const Inspect& request, const Known& known) {
  const bool get = request.op == "service.get";
  const bool backends = request.op == "backend.list";
  if (!get && !backends && request.op != "service.list") {
    return fail(Code::kNotFound, "{}: no such operation", request.op);
  }
  FL_LET(const std::string ns, argument(request, "namespace", get ? "default" : ""));
  FL_LET(const std::string name, argument(request, "name"));
  Json list = Json::array();
  for (const auto& [key, state] : known.index.all()) {
    if (!state.declared) continue;
    const model::ObjectId& id = state.declared->id;
    if ((!ns.empty() && id.ns != ns) || (!name.empty() && id.name != name)) continue;
    if (get && !name.empty()) return service_details(key, state, known);
    if (backends) {
      append_backends(list, state, known);
    } else {
      list.push_back(service_json(key, state, known));
    }
  }
  if (!get) return list;
  if (name.empty()) return fail(Code::kInvalid, "service.get: name: is required");
  return fail(Code::kNotFound, "Service {}/{}: not found", ns, name);
}

}  // namespace fairlead::services
