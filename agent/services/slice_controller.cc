// SPDX-License-Identifier: Apache-2.0
#include "agent/services/slice_controller.h"

#include <algorithm>
#include <optional>

#include "agent/services/families.h"

namespace fairlead::services {
namespace {

// The number that `port` has in `pod`; none where the pod has no container port of that name and protocol.
std::optional<std::uint16_t> resolve(const model::ServicePort& port, const model::LocalPod& pod) {
  if (const auto* number = std::get_if<std::uint16_t>(&port.target)) return *number == 0 ? port.port : *number;
  const auto at = pod.named_ports.find(std::get<std::string>(port.target));
  if (at == pod.named_ports.end() || at->second.second != port.protocol) return std::nullopt;
  return at->second.first;
}

// A port that a pod lacks is left out of that pod's slice; its other ports still serve.
std::vector<model::EndpointPort> resolve_ports(const model::Service& service, const model::LocalPod& pod) {
  std::vector<model::EndpointPort> ports;
  for (const model::ServicePort& port : service.ports) {
    if (const auto number = resolve(port, pod)) ports.push_back({port.name, *number, port.protocol});
  }
  return ports;
}

// Names of Services hold no dot and port names are unique in a Service: no two slices share a name.
std::string slice_name(const model::Service& service, Family family, const std::vector<model::EndpointPort>& ports) {
  std::string name = fmt::format("{}.ipv{}", service.id.name, static_cast<int>(family));
  for (const model::EndpointPort& port : ports) {
    name += fmt::format(".{}{}{}", port.name, port.name.empty() ? "" : "-", port.port);
  }
  return name;
}

// As the EndpointSlice controller does: a ready endpoint is for its own zone, and with PreferSameNode for its node,
// too.
void add_hints(model::TrafficDistribution distribution, model::Endpoint& endpoint) {
  if (distribution == model::TrafficDistribution::kAll || !endpoint.ready) return;
  if (!endpoint.zone.empty()) endpoint.zone_hints = {endpoint.zone};
  if (distribution == model::TrafficDistribution::kSameNode) endpoint.node_hints = {endpoint.node};
}

const std::string& namespace_of(const auto& change) {
  return change.after ? change.after->id.ns : change.before->id.ns;
}

}  // namespace

bool selects(const model::Labels& selector, const model::Labels& labels) {
  if (selector.empty()) return false;
  return std::ranges::all_of(selector, [&](const auto& wanted) {
    const auto at = labels.find(wanted.first);
    return at != labels.end() && at->second == wanted.second;
  });
}

std::map<std::string, model::EndpointSlice> compute_slices(
    const model::Service& service, const std::vector<std::shared_ptr<const model::LocalPod>>& pods,
    const std::string& node, const std::string& zone, const std::vector<Family>& configured) {
  std::map<std::string, model::EndpointSlice> slices;
  if (service.type == model::ServiceType::kExternalName) return slices;
  for (const auto& pod : pods) {
    if (pod->terminal || !selects(service.selector, pod->labels)) continue;
    const std::vector<model::EndpointPort> ports = resolve_ports(service, *pod);
    for (const Family family : families_of(service, configured)) {
      const auto address = std::ranges::find(pod->ips, family, &IpAddress::family);
      if (address == pod->ips.end()) continue;
      model::ObjectId id{service.id.ns, slice_name(service, family, ports), ""};
      model::EndpointSlice& slice = slices[id.key()];
      slice.id = std::move(id);
      slice.service = service.id.name;
      slice.family = family;
      slice.ports = ports;
      slice.endpoints.push_back({.address = *address,
                                 .ready = service.publish_not_ready || (pod->ready && !pod->terminating),
                                 .serving = pod->serving,
                                 .terminating = pod->terminating,
                                 .node = node,
                                 .zone = zone,
                                 .target_uid = pod->id.uid,
                                 .zone_hints = {},
                                 .node_hints = {}});
      add_hints(service.distribution, slice.endpoints.back());
    }
  }
  for (auto& [key, slice] : slices) std::ranges::sort(slice.endpoints);
  return slices;
}

SliceController::SliceController(Loop& loop, Deps deps) : deps_(std::move(deps)) {
  deps_.services.attach(loop, [this](state::Delta<model::Service> delta) { services_changed(delta); });
  deps_.pods.attach(loop, [this](state::Delta<model::LocalPod> delta) { pods_changed(delta); });
}

void SliceController::services_changed(const state::Delta<model::Service>& delta) {
  for (const auto& change : delta.changes) {
    Namespace& ns = namespaces_[namespace_of(change)];
    if (change.after) {
      ns.services[change.key] = change.after;
    } else {
      ns.services.erase(change.key);
    }
    recompute(change.key);
  }
  services_complete_ = delta.complete;
  complete_when_ready();
}

void SliceController::pods_changed(const state::Delta<model::LocalPod>& delta) {
  std::set<std::string> touched;
  for (const auto& change : delta.changes) {
    Namespace& ns = namespaces_[namespace_of(change)];
    touch(ns, change.before, touched);
    touch(ns, change.after, touched);
    if (change.after) {
      ns.pods[change.key] = change.after;
    } else {
      ns.pods.erase(change.key);
    }
  }
  for (const std::string& service_key : touched) recompute(service_key);
  pods_complete_ = delta.complete;
  complete_when_ready();
}

void SliceController::touch(const Namespace& ns, const std::shared_ptr<const model::LocalPod>& pod,
                            std::set<std::string>& touched) const {
  if (!pod) return;
  for (const auto& [key, service] : ns.services) {
    if (selects(service->selector, pod->labels)) touched.insert(key);
  }
}

void SliceController::recompute(const std::string& service_key) {
  const Namespace& ns = namespaces_[service_key.substr(0, service_key.find('/'))];
  const auto service = ns.services.find(service_key);
  if (service == ns.services.end()) return write(service_key, {});
  std::vector<std::shared_ptr<const model::LocalPod>> pods;
  for (const auto& [uid, pod] : ns.pods) pods.push_back(pod);
  write(service_key, compute_slices(*service->second, pods, deps_.node, deps_.zone, deps_.families));
}

void SliceController::write(const std::string& service_key, std::map<std::string, model::EndpointSlice> slices) {
  auto& written = written_[service_key];
  for (const auto& [key, slice] : slices) {
    const auto at = written.find(key);
    if (at == written.end() || at->second != slice) deps_.slices.upsert(key, slice);
  }
  for (const auto& [key, slice] : written) {
    if (!slices.contains(key)) deps_.slices.erase(key);
  }
  written = std::move(slices);
  if (written.empty()) written_.erase(service_key);
}

void SliceController::complete_when_ready() {
  if (completed_ || !services_complete_ || !pods_complete_) return;
  completed_ = true;
  deps_.slices.set_complete();
}

}  // namespace fairlead::services
