// SPDX-License-Identifier: Apache-2.0
// Rows that NetworkPolicy is judged by.
#include <k8s/namespace.pb.h>
#include <k8s/networkpolicy.pb.h>
#include <k8s/pod.pb.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "agent/kube/codec/selector.h"
#include "agent/kube/project.h"

namespace fairlead::kube {
namespace {

constexpr std::int32_t kLastPort = std::numeric_limits<std::uint16_t>::max();

void add_named_ports(const k8s::Container& container, std::vector<model::NamedPort>& ports) {
  for (const k8s::ContainerPort& port : container.ports()) {
    const auto protocol = parse_protocol(port.protocol());
    const std::int32_t number = port.containerport();
    if (port.name().empty() || !protocol || number < 1 || number > kLastPort) continue;
    ports.push_back({port.name(), *protocol, static_cast<std::uint16_t>(number)});
  }
}

Result<std::uint16_t> project_port(std::int32_t number) {
  if (number < 1 || number > kLastPort) return fail(Code::kInvalid, "{} is not a port", number);
  return static_cast<std::uint16_t>(number);
}

Result<model::PolicyPort> project_policy_port(const k8s::NetworkPolicyPort& from) {
  model::PolicyPort port;
  FL_LET(port.protocol, parse_protocol(from.protocol()));
  if (!from.has_port()) return port;
  if (from.port().type() == 1) {
    port.port = from.port().strval();
    return port;
  }
  FL_LET(const std::uint16_t first, project_port(from.port().intval()));
  port.port = first;
  if (!from.has_endport()) return port;
  FL_LET(port.end, project_port(from.endport()));
  if (port.end < first) return fail(Code::kInvalid, "endPort {} comes before port {}", port.end, first);
  return port;
}

// The server takes host bits as long as it has older objects with them: they say nothing.
Result<Cidr> project_cidr(const std::string& text) {
  return Cidr::parse(text, true);
}

Result<model::PolicyPeer> project_peer(const k8s::NetworkPolicyPeer& from) {
  model::PolicyPeer peer;
  if (from.has_ipblock()) {
    FL_LET(const Cidr cidr, project_cidr(from.ipblock().cidr()));
    peer.block = model::IpBlock{cidr, {}};
    for (const std::string& text : from.ipblock().except()) {
      FL_LET(const Cidr except, project_cidr(text));
      peer.block->except.push_back(except);
    }
    std::ranges::sort(peer.block->except);
    return peer;
  }
  if (!from.has_podselector() && !from.has_namespaceselector()) return fail(Code::kInvalid, "it names no peer");
  if (from.has_namespaceselector()) {
    FL_LET(peer.namespaces, compile_selector(from.namespaceselector()));
  }
  FL_LET(peer.pods, compile_selector(from.podselector()));
  return peer;
}

// `from`: the ports or peers of one rule, each read by `project`; what cannot be read is left out and told.
template <class Row, class Messages, class Project>
std::vector<Row> project_parts(const Messages& from, Project project, const std::string& field,
                               std::vector<std::string>& unread) {
  std::vector<Row> rows;
  for (int i = 0; i < from.size(); ++i) {
    if (auto row = project(from[i])) {
      rows.push_back(std::move(*row));
    } else {
      unread.push_back(fmt::format("{}[{}]: {}", field, i, row.error().message()));
    }
  }
  return rows;
}

template <class Ports, class Peers>
model::PolicyRule project_rule(const Ports& ports, const Peers& peers, const std::string& path, const char* peers_field,
                               std::vector<std::string>& unread) {
  model::PolicyRule rule;
  rule.any_port = ports.empty();
  rule.ports = project_parts<model::PolicyPort>(ports, project_policy_port, path + ".ports", unread);
  rule.any_peer = peers.empty();
  rule.peers = project_parts<model::PolicyPeer>(peers, project_peer, path + "." + peers_field, unread);
  return rule;
}

}  // namespace

model::Namespace project_namespace(const k8s::Namespace& from) {
  const k8s::ObjectMeta& meta = from.metadata();
  return {meta.name(), {meta.labels().begin(), meta.labels().end()}};
}

model::PeerPod project_peer_pod(const k8s::Pod& from) {
  const k8s::ObjectMeta& meta = from.metadata();
  model::PeerPod pod{{meta.namespace_(), meta.name(), meta.uid()}, {meta.labels().begin(), meta.labels().end()}, {}};
  pod.host_network = from.spec().hostnetwork();
  pod.node = from.spec().nodename();
  for (const k8s::Container& container : from.spec().containers()) add_named_ports(container, pod.named_ports);
  for (const k8s::Container& container : from.spec().initcontainers()) {
    if (container.restartpolicy() == "Always") add_named_ports(container, pod.named_ports);  // a sidecar
  }
  std::ranges::sort(pod.named_ports);
  const k8s::PodStatus& status = from.status();
  if (status.phase() == "Succeeded" || status.phase() == "Failed") return pod;
  for (const k8s::PodIP& each : status.podips()) {
    if (auto address = IpAddress::parse(each.ip())) pod.ips.push_back(*address);
  }
  return pod;
}

Result<model::NetworkPolicy> project_network_policy(const k8s::NetworkPolicy& from) {
  const k8s::ObjectMeta& meta = from.metadata();
  const k8s::NetworkPolicySpec& spec = from.spec();
  model::NetworkPolicy policy{{meta.namespace_(), meta.name(), meta.uid()}, {}};
  auto pods = compile_selector(spec.podselector());
  if (!pods) return fail_with(std::move(pods).error(), "spec.podSelector");
  policy.pods = std::move(*pods);
  const auto names = [&](const char* type) {
    return std::ranges::find(spec.policytypes(), type) != spec.policytypes().end();
  };
  const bool defaulted = spec.policytypes().empty();
  policy.isolates_ingress = defaulted || names("Ingress");
  policy.isolates_egress = defaulted ? !spec.egress().empty() : names("Egress");
  for (int i = 0; i < spec.ingress_size(); ++i) {
    policy.ingress.push_back(project_rule(spec.ingress(i).ports(), spec.ingress(i).from(),
                                          fmt::format("spec.ingress[{}]", i), "from", policy.unread));
  }
  for (int i = 0; i < spec.egress_size(); ++i) {
    policy.egress.push_back(project_rule(spec.egress(i).ports(), spec.egress(i).to(), fmt::format("spec.egress[{}]", i),
                                         "to", policy.unread));
  }
  return policy;
}

}  // namespace fairlead::kube
