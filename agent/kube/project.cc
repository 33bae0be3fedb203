// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/project.h"

#include <k8s/config.pb.h>
#include <k8s/endpointslice.pb.h>
#include <k8s/node.pb.h>
#include <k8s/pod.pb.h>
#include <k8s/service.pb.h>
#include <spdlog/fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "agent/kube/annotations.h"

namespace fairlead::kube {
namespace {

constexpr const char* kServiceNameLabel = "kubernetes.io/service-name";
// On slices of headless Services, and on others that no proxy is to serve; its value does not count.
constexpr const char* kHeadlessLabel = "service.kubernetes.io/headless";
// On Services that another proxy than the cluster's own is to serve; its value does not count.
constexpr const char* kProxyNameLabel = "service.kubernetes.io/service-proxy-name";
constexpr std::uint32_t kDefaultAffinitySeconds = 10800;
constexpr std::int64_t kDefaultGraceSeconds = 30;

model::ObjectId project_id(const k8s::ObjectMeta& meta) {
  return {meta.namespace_(), meta.name(), meta.uid()};
}

Result<std::uint16_t> project_port(std::int32_t port, const std::string& field) {
  if (port < 0 || port > std::numeric_limits<std::uint16_t>::max()) {
    return fail(Code::kInvalid, "{}: {} is not a port", field, port);
  }
  return static_cast<std::uint16_t>(port);
}

Result<model::ServicePort> project_service_port(const k8s::ServicePort& from, const std::string& field) {
  model::ServicePort port;
  port.name = from.name();
  FL_LET(port.port, project_port(from.port(), field + ".port"));
  FL_LET(port.node_port, project_port(from.nodeport(), field + ".nodePort"));
  FL_LET(port.protocol, parse_protocol(from.protocol()));
  const k8s::IntOrString& target = from.targetport();
  if (target.type() == 1 && !target.strval().empty()) {
    port.target = target.strval();
  } else {
    FL_LET(const std::uint16_t number, project_port(target.intval(), field + ".targetPort"));
    port.target = number != 0 ? number : port.port;
  }
  return port;
}

// What is wrong with an annotation costs no more than its effect: an API server took it.
void project_annotations(const k8s::ObjectMeta& meta, model::Service& service) {
  const auto& annotations = meta.annotations();
  const auto read = [&](const char* name, auto parse, auto take) {
    const auto at = annotations.find(name);
    if (at == annotations.end()) return;
    if (auto value = parse(at->second)) {
      take(std::move(*value));
    } else {
      service.unread.push_back(fmt::format("{}: {}", name, value.error().message()));
    }
  };
  read(kBalancingAnnotation, read_balancing, [&](Balancing value) { service.balancing = value; });
  read(kZoneWeightsAnnotation, read_zone_weights, [&](auto value) { service.zone_weights = std::move(value); });
}

// The ways in from outside that a Service asks for: none is served yet.
void note_ways_in(const k8s::Service& from, model::Service& service) {
  if (service.other_proxy) return;
  const k8s::ServiceSpec& spec = from.spec();
  std::vector<std::string> fields;
  if (spec.type() == "NodePort" || spec.type() == "LoadBalancer") fields.push_back("spec.type " + spec.type());
  for (std::size_t i = 0; i < service.ports.size(); ++i) {
    if (service.ports[i].node_port != 0) fields.push_back(fmt::format("spec.ports[{}].nodePort", i));
  }
  if (!spec.externalips().empty()) fields.emplace_back("spec.externalIPs");
  if (!from.status().loadbalancer().ingress().empty()) fields.emplace_back("status.loadBalancer.ingress");
  if (fields.empty()) return;
  service.unread.push_back(
      fmt::format("{}: not served by this release, which serves ClusterIPs alone", fmt::join(fields, ", ")));
}

template <class Hints>
std::vector<std::string> project_hints(const Hints& hints) {
  std::vector<std::string> names;
  for (const auto& hint : hints) names.push_back(hint.name());
  std::ranges::sort(names);
  return names;
}

}  // namespace

Result<model::Service> project_service(const k8s::Service& from) {
  const k8s::ServiceSpec& spec = from.spec();
  model::Service service;
  service.id = project_id(from.metadata());
  using Type = model::ServiceType;
  if (spec.type() == "NodePort") {
    service.type = Type::kNodePort;
  } else if (spec.type() == "LoadBalancer") {
    service.type = Type::kLoadBalancer;
  } else if (spec.type() == "ExternalName") {
    service.type = Type::kExternalName;
  } else if (!spec.type().empty() && spec.type() != "ClusterIP") {
    return fail(Code::kInvalid, "spec.type: \"{}\" is not a type of Service", spec.type());
  }

  service.other_proxy = from.metadata().labels().contains(kProxyNameLabel);
  service.headless = spec.clusterip() == "None";
  if (!service.headless) {
    std::vector<std::string> texts(spec.clusterips().begin(), spec.clusterips().end());
    if (texts.empty() && !spec.clusterip().empty()) texts.push_back(spec.clusterip());
    for (const std::string& text : texts) {
      auto address = IpAddress::parse(text);
      if (!address) return fail_with(std::move(address).error(), "spec.clusterIPs");
      service.cluster_ips.push_back(*address);
    }
  }
  for (const std::string& family : spec.ipfamilies()) {
    if (family != "IPv4" && family != "IPv6") return fail(Code::kInvalid, "spec.ipFamilies: \"{}\" is none", family);
    service.families.push_back(family == "IPv4" ? Family::kV4 : Family::kV6);
  }
  if (spec.ipfamilypolicy() == "PreferDualStack") service.family_policy = model::FamilyPolicy::kPreferDualStack;
  if (spec.ipfamilypolicy() == "RequireDualStack") service.family_policy = model::FamilyPolicy::kRequireDualStack;
  if (service.families.empty()) {
    for (const IpAddress& address : service.cluster_ips) service.families.push_back(address.family());
  }
  for (int i = 0; i < spec.ports_size(); ++i) {
    FL_LET(auto port, project_service_port(spec.ports(i), fmt::format("spec.ports[{}]", i)));
    service.ports.push_back(std::move(port));
  }
  service.selector = {spec.selector().begin(), spec.selector().end()};
  if (spec.sessionaffinity() == "ClientIP") {
    const k8s::ClientIPConfig& config = spec.sessionaffinityconfig().clientip();
    service.affinity_timeout_s =
        config.timeoutseconds() > 0 ? static_cast<std::uint32_t>(config.timeoutseconds()) : kDefaultAffinitySeconds;
  }
  service.publish_not_ready = spec.publishnotreadyaddresses();
  service.internal_local = spec.internaltrafficpolicy() == "Local";
  using Distribution = model::TrafficDistribution;
  if (const std::string& wanted = spec.trafficdistribution(); wanted == "PreferSameNode") {
    service.distribution = Distribution::kSameNode;
  } else if (wanted == "PreferSameZone" || wanted == "PreferClose") {
    service.distribution = Distribution::kSameZone;
  }
  project_annotations(from.metadata(), service);
  note_ways_in(from, service);
  return service;
}

Result<model::EndpointSlice> project_endpoint_slice(const k8s::EndpointSlice& from) {
  model::EndpointSlice slice;
  slice.id = project_id(from.metadata());
  const auto& labels = from.metadata().labels();
  if (labels.contains(kHeadlessLabel)) return slice;
  if (const auto at = labels.find(kServiceNameLabel); at != labels.end()) slice.service = at->second;
  if (from.addresstype() == "FQDN") return slice;
  if (from.addresstype() != "IPv4" && from.addresstype() != "IPv6") {
    return fail(Code::kInvalid, "addressType: \"{}\" is not IPv4, IPv6 or FQDN", from.addresstype());
  }
  slice.family = from.addresstype() == "IPv4" ? Family::kV4 : Family::kV6;
  for (int i = 0; i < from.ports_size(); ++i) {
    const k8s::EndpointPort& port = from.ports(i);
    if (!port.has_port()) continue;  // "all ports", which no Service can use
    FL_LET(const std::uint16_t number, project_port(port.port(), fmt::format("ports[{}].port", i)));
    FL_LET(const Protocol protocol, parse_protocol(port.protocol()));
    slice.ports.push_back({port.name(), number, protocol});
  }
  slice.endpoints.reserve(static_cast<std::size_t>(from.endpoints_size()));
  for (int i = 0; i < from.endpoints_size(); ++i) {
    const k8s::Endpoint& each = from.endpoints(i);
    if (each.addresses().empty()) continue;
    auto address = IpAddress::parse(each.addresses(0));
    if (!address) return fail_with(std::move(address).error(), fmt::format("endpoints[{}].addresses[0]", i));
    if (address->family() != slice.family) {
      return fail(Code::kInvalid, "endpoints[{}].addresses[0]: {} is not {}", i, *address, from.addresstype());
    }
    const k8s::EndpointConditions& conditions = each.conditions();
    model::Endpoint endpoint;
    endpoint.address = *address;
    endpoint.ready = !conditions.has_ready() || conditions.ready();  // unknown counts as ready
    endpoint.serving = conditions.has_serving() ? conditions.serving() : endpoint.ready;
    endpoint.terminating = conditions.terminating();
    endpoint.node = each.nodename();
    endpoint.zone = each.zone();
    endpoint.target_uid = each.targetref().uid();
    endpoint.zone_hints = project_hints(each.hints().forzones());
    endpoint.node_hints = project_hints(each.hints().fornodes());
    slice.endpoints.push_back(std::move(endpoint));
  }
  return slice;
}

model::Pod project_pod(std::shared_ptr<const k8s::Pod> from, std::string source) {
  model::Pod pod;
  pod.id = project_id(from->metadata());
  pod.source = std::move(source);
  if (const k8s::ObjectMeta& meta = from->metadata(); meta.has_deletiontimestamp()) {
    const std::int64_t own = from->spec().has_terminationgraceperiodseconds()
                                 ? from->spec().terminationgraceperiodseconds()
                                 : kDefaultGraceSeconds;
    pod.deletion_grace_s = meta.has_deletiongraceperiodseconds() ? meta.deletiongraceperiodseconds() : own;
  }
  pod.object = std::move(from);
  return pod;
}

model::ConfigData project_config_map(const k8s::ConfigMap& from) {
  model::ConfigData config{project_id(from.metadata()), {from.data().begin(), from.data().end()}};
  config.data.insert(from.binarydata().begin(), from.binarydata().end());
  return config;
}

model::ConfigData project_secret(const k8s::Secret& from) {
  return {project_id(from.metadata()), {from.data().begin(), from.data().end()}};
}

Result<model::Node> project_node(const k8s::Node& from) {
  const k8s::ObjectMeta& meta = from.metadata();
  model::Node node{meta.name(), meta.uid(), {meta.labels().begin(), meta.labels().end()}, {}, {}};
  for (const std::string& text : from.spec().podcidrs()) {
    auto range = Cidr::parse(text);
    if (!range) return fail_with(std::move(range).error(), "spec.podCIDRs");
    node.pod_cidrs.push_back(*range);
  }
  for (int i = 0; i < from.status().addresses_size(); ++i) {
    const k8s::NodeAddress& each = from.status().addresses(i);
    if (each.type() != "InternalIP") continue;
    auto address = IpAddress::parse(each.address());
    if (!address) return fail_with(std::move(address).error(), fmt::format("status.addresses[{}]", i));
    node.addresses.push_back(*address);
  }
  return node;
}

}  // namespace fairlead::kube
