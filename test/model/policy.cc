// SPDX-License-Identifier: Apache-2.0
#include "test/model/policy.h"

#include <algorithm>

namespace fairlead::model {
namespace {

using Labels = std::map<std::string, std::string>;

bool selects(const k8s::LabelSelector& selector, const Labels& labels) {
  for (const auto& [key, value] : selector.matchlabels()) {
    if (!labels.contains(key) || labels.at(key) != value) return false;
  }
  for (const auto& expression : selector.matchexpressions()) {
    const bool has = labels.contains(expression.key());
    bool listed = false;
    for (const std::string& value : expression.values())
      listed = listed || (has && labels.at(expression.key()) == value);
    if (expression.operator_() == "In" && !listed) return false;
    if (expression.operator_() == "NotIn" && listed) return false;
    if (expression.operator_() == "Exists" && !has) return false;
    if (expression.operator_() == "DoesNotExist" && has) return false;
  }
  return true;
}

bool in_cidr(const std::string& cidr, const IpAddress& address) {
  const std::size_t slash = cidr.find('/');
  const IpAddress base = IpAddress::parse(cidr.substr(0, slash)).value();
  if (base.family() != address.family()) return false;
  const int bits = std::stoi(cidr.substr(slash + 1));
  for (int bit = 0; bit < bits; ++bit) {
    const auto byte = static_cast<std::size_t>(bit / 8);
    const int mask = 0x80 >> bit % 8;
    if ((base.bytes()[byte] & mask) != (address.bytes()[byte] & mask)) return false;
  }
  return true;
}

// `owner`: whose names a named port means; nullptr: nobody's.
bool is_port(const k8s::NetworkPolicyPort& port, const PolicyWorld::Pod* owner, const std::string& protocol,
             std::uint16_t number) {
  if (port.has_protocol() ? port.protocol() != protocol : protocol != "TCP") return false;
  if (!port.has_port()) return true;
  if (port.port().type() == 0) {
    const int last = port.has_endport() ? port.endport() : port.port().intval();
    return port.port().intval() <= number && number <= last;
  }
  return owner != nullptr && std::ranges::any_of(owner->ports, [&](const PolicyWorld::Port& each) {
           return each.name == port.port().strval() && each.protocol == protocol && each.number == number;
         });
}

bool any_port(const auto& ports, const PolicyWorld::Pod* owner, const std::string& protocol, std::uint16_t number) {
  if (ports.empty()) return true;
  return std::ranges::any_of(ports, [&](const auto& port) { return is_port(port, owner, protocol, number); });
}

bool isolates(const k8s::NetworkPolicySpec& spec, const std::string& direction) {
  if (spec.policytypes().empty()) return direction == "Ingress" || !spec.egress().empty();
  return std::ranges::find(spec.policytypes(), direction) != spec.policytypes().end();
}

}  // namespace

// Traffic of a pod on the host's network is the node's: its labels do not count.
const PolicyWorld::Pod* PolicyWorld::pod_at(const IpAddress& address) const {
  for (const auto& [key, pod] : pods) {
    if (!pod.host_network && std::ranges::find(pod.ips, address) != pod.ips.end()) return &pod;
  }
  return nullptr;
}

bool PolicyWorld::is_peer(const k8s::NetworkPolicyPeer& peer, const std::string& policy_namespace,
                          const IpAddress& address) const {
  if (peer.has_ipblock()) {
    return in_cidr(peer.ipblock().cidr(), address) &&
           std::ranges::none_of(peer.ipblock().except(), [&](const auto& cidr) { return in_cidr(cidr, address); });
  }
  const Pod* pod = pod_at(address);
  if (pod == nullptr) return false;
  const bool in_namespace = peer.has_namespaceselector() ? selects(peer.namespaceselector(), namespaces.at(pod->ns))
                                                         : pod->ns == policy_namespace;
  return in_namespace && (!peer.has_podselector() || selects(peer.podselector(), pod->labels));
}

std::size_t PolicyWorld::policies_of(const Pod& pod) const {
  return static_cast<std::size_t>(std::ranges::count_if(policies, [&](const auto& entry) {
    const auto& policy = entry.second;
    return !pod.host_network && policy.metadata().namespace_() == pod.ns &&
           selects(policy.spec().podselector(), pod.labels);
  }));
}

bool PolicyWorld::allows_ingress(const Pod& pod, const IpAddress& peer, const std::string& protocol,
                                 std::uint16_t port) const {
  if (pod.host_network || std::ranges::find(node_addresses, peer) != node_addresses.end()) return true;
  bool isolated = false;
  for (const auto& [key, policy] : policies) {
    const auto& spec = policy.spec();
    if (policy.metadata().namespace_() != pod.ns || !selects(spec.podselector(), pod.labels)) continue;
    if (!isolates(spec, "Ingress")) continue;
    isolated = true;
    for (const auto& rule : spec.ingress()) {
      if (!any_port(rule.ports(), &pod, protocol, port)) continue;
      if (rule.from().empty()) return true;
      for (const auto& each : rule.from()) {
        if (is_peer(each, pod.ns, peer)) return true;
      }
    }
  }
  return !isolated;
}

bool PolicyWorld::allows_egress(const Pod& pod, const IpAddress& peer, const std::string& protocol,
                                std::uint16_t port) const {
  if (pod.host_network || std::ranges::find(node_addresses, peer) != node_addresses.end()) return true;
  bool isolated = false;
  for (const auto& [key, policy] : policies) {
    const auto& spec = policy.spec();
    if (policy.metadata().namespace_() != pod.ns || !selects(spec.podselector(), pod.labels)) continue;
    if (!isolates(spec, "Egress")) continue;
    isolated = true;
    for (const auto& rule : spec.egress()) {
      if (!any_port(rule.ports(), pod_at(peer), protocol, port)) continue;
      if (rule.to().empty()) return true;
      for (const auto& each : rule.to()) {
        if (is_peer(each, pod.ns, peer)) return true;
      }
    }
  }
  return !isolated;
}

}  // namespace fairlead::model
