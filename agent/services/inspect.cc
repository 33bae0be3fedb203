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
  return backend.terminating ? "terminating" : "not-ready";
}

Json port_json(const model::ServicePort& port) {
  Json json{
      {"name", port.name}, {"port", port.port}, {"protocol", to_string(port.protocol)}, {"node_port", port.node_port}};
  std::visit([&](const auto& target) { json["target_port"] = target; }, port.target);
  return json;
}

Json backend_json(const PlannedBackend& backend) {
  return {{"address", backend.backend.address.str()},
          {"port", backend.backend.port},
          {"ready", backend.ready},
          {"serving", backend.serving},
          {"terminating", backend.terminating},
          {"pod_uid", backend.target_uid},
          {"state", backend_state(backend)}};
}

// What the Service is, with its addresses where it has them.
const model::Service& known(const ServiceState& state) {
  return state.effective ? *state.effective : *state.declared;
}

Json service_json(const std::string& key, const ServiceState& state, const std::map<std::string, Error>& failing) {
  const model::Service& service = known(state);
  Json addresses = Json::array();
  for (const IpAddress& address : service.cluster_ips) addresses.push_back(address.str());
  Json ports = Json::array();
  for (const model::ServicePort& port : service.ports) ports.push_back(port_json(port));
  const auto error = failing.find(key);
  return {{"namespace", service.id.ns},
          {"name", service.id.name},
          {"type", type_name(service.type)},
          {"headless", service.headless},
          {"cluster_ips", std::move(addresses)},
          {"ports", std::move(ports)},
          {"backends", state.backends},
          {"affinity_timeout_seconds", service.affinity_timeout_s},
          {"error", error == failing.end() ? "" : error->second.message()}};
}

// Of every family in which the Service has an address.
std::vector<PlannedBackend> backends_of(const ServiceState& state, const model::ServicePort& port,
                                        const LocalPods& pods) {
  const model::Service& service = known(state);
  std::vector<PlannedBackend> all;
  for (const Family family : {Family::kV4, Family::kV6}) {
    if (std::ranges::find(service.cluster_ips, family, &IpAddress::family) == service.cluster_ips.end()) continue;
    std::ranges::move(compute_backends(service, port, family, state.slice_list(), pods), std::back_inserter(all));
  }
  return all;
}

Json service_details(const std::string& key, const ServiceState& state, const ServiceIndex& index,
                     const std::map<std::string, Error>& failing) {
  const model::Service& service = known(state);
  Json json = service_json(key, state, failing);
  json["uid"] = service.id.uid;
  json["selector"] = service.selector;
  json["publish_not_ready"] = service.publish_not_ready;
  for (std::size_t i = 0; i < service.ports.size(); ++i) {
    Json& backends = json["ports"][i]["backends"] = Json::array();
    for (const auto& backend : backends_of(state, service.ports[i], index.pods())) {
      backends.push_back(backend_json(backend));
    }
  }
  return json;
}

void append_backends(Json& list, const ServiceState& state, const ServiceIndex& index) {
  const model::Service& service = known(state);
  for (const model::ServicePort& port : service.ports) {
    for (const PlannedBackend& backend : backends_of(state, port, index.pods())) {
      Json json = backend_json(backend);
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

Result<Json> answer(const Inspect& request, const ServiceIndex& index, const std::map<std::string, Error>& failing) {
  const bool get = request.op == "service.get";
  const bool backends = request.op == "backend.list";
  if (!get && !backends && request.op != "service.list") {
    return fail(Code::kNotFound, "{}: no such operation", request.op);
  }
  FL_LET(const std::string ns, argument(request, "namespace", get ? "default" : ""));
  FL_LET(const std::string name, argument(request, "name"));
  Json list = Json::array();
  for (const auto& [key, state] : index.all()) {
    if (!state.declared) continue;
    const model::ObjectId& id = state.declared->id;
    if ((!ns.empty() && id.ns != ns) || (!name.empty() && id.name != name)) continue;
    if (get && !name.empty()) return service_details(key, state, index, failing);
    if (backends) {
      append_backends(list, state, index);
    } else {
      list.push_back(service_json(key, state, failing));
    }
  }
  if (!get) return list;
  if (name.empty()) return fail(Code::kInvalid, "service.get: name: is required");
  return fail(Code::kNotFound, "Service {}/{}: not found", ns, name);
}

}  // namespace fairlead::services
