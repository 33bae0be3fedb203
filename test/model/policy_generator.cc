// SPDX-License-Identifier: Apache-2.0
#include "test/model/policy_generator.h"

#include <algorithm>
#include <string_view>

namespace fairlead::model {
namespace {

constexpr const char* kApps[] = {"a", "b", "c"};
constexpr const char* kTiers[] = {"f", "g"};
constexpr const char* kOperators[] = {"In", "NotIn", "Exists", "DoesNotExist"};

// What a test of all of NetworkPolicy meets; the last ones are counted by the test itself.
constexpr const char* kParts[] = {"podSelector, empty",
                                  "podSelector, matchLabels",
                                  "In",
                                  "NotIn",
                                  "Exists",
                                  "DoesNotExist",
                                  "policyTypes by default, ingress",
                                  "policyTypes by default, both",
                                  "policyTypes, ingress only",
                                  "policyTypes, egress only",
                                  "policyTypes, both",
                                  "no rule",
                                  "any peer, ingress",
                                  "any peer, egress",
                                  "podSelector peer, ingress",
                                  "podSelector peer, egress",
                                  "namespaceSelector peer, ingress",
                                  "namespaceSelector peer, egress",
                                  "both selectors, ingress",
                                  "both selectors, egress",
                                  "ipBlock, ingress",
                                  "ipBlock, egress",
                                  "except",
                                  "ipBlock of IPv6",
                                  "several peers",
                                  "no ports",
                                  "several ports",
                                  "protocol by default",
                                  "TCP",
                                  "UDP",
                                  "SCTP",
                                  "all ports of a protocol",
                                  "named port",
                                  "endPort",
                                  "several policies of a pod",
                                  "a pod that no policy isolates",
                                  "a pod of both families",
                                  "a pod on the host's network"};

}  // namespace

const Blocks kBlocks{{"0.0.0.0/0", {}},
                     {"0.0.0.0/0", {"10.0.0.0/8"}},
                     {"0.0.0.0/0", {"192.0.2.0/24", "10.0.1.0/24"}},
                     {"10.0.0.0/8", {"10.0.1.0/24"}},
                     {"10.0.1.0/24", {}},
                     {"10.0.1.0/28", {}},
                     {"192.0.2.0/24", {"192.0.2.128/25"}},
                     {"192.0.2.128/25", {}},
                     {"192.0.2.1/32", {}},
                     {"::/0", {"fd00::/16"}},
                     {"fd00::/16", {}},
                     {"2001:db8::/32", {"2001:db8:1::/48"}},
                     {"2001:db8:1::1/128", {}}};

std::map<std::string, std::string> PolicyGenerator::labels() {
  std::map<std::string, std::string> labels;
  if (chance(90)) labels["app"] = pick(kApps);
  if (chance(50)) labels["tier"] = pick(kTiers);
  return labels;
}

std::vector<PolicyWorld::Port> PolicyGenerator::named_ports() {
  std::vector<PolicyWorld::Port> ports;
  if (chance(60)) ports.push_back({"http", "TCP", static_cast<std::uint16_t>(chance(50) ? 80 : 8080)});
  if (chance(30)) ports.push_back({"dns", "UDP", 53});
  return ports;
}

k8s::LabelSelector PolicyGenerator::selector() {
  k8s::LabelSelector selector;
  if (chance(25)) return selector;
  if (chance(60)) (*selector.mutable_matchlabels())["app"] = pick(kApps);
  if (chance(50)) {
    auto& expression = *selector.add_matchexpressions();
    expression.set_key(chance(50) ? "app" : "tier");
    const char* op = pick(kOperators);
    expression.set_operator_(op);
    if (std::string_view(op).ends_with("In")) {
      expression.add_values(expression.key() == "app" ? pick(kApps) : pick(kTiers));
      if (chance(30)) expression.add_values("c");
    }
  }
  return selector;
}

k8s::NetworkPolicyPeer PolicyGenerator::peer() {
  k8s::NetworkPolicyPeer peer;
  if (chance(35)) {
    const auto& [cidr, except] = pick(blocks_);
    peer.mutable_ipblock()->set_cidr(cidr);
    for (const std::string& each : except) peer.mutable_ipblock()->add_except(each);
    return peer;
  }
  if (chance(50)) {
    auto& namespaces = *peer.mutable_namespaceselector();
    if (chance(40)) (*namespaces.mutable_matchlabels())["team"] = chance(50) ? "x" : "y";
    if (chance(20)) (*namespaces.mutable_matchlabels())["kubernetes.io/metadata.name"] = pick(kProbedNamespaces);
  }
  if (!peer.has_namespaceselector() || chance(60)) *peer.mutable_podselector() = selector();
  return peer;
}

k8s::NetworkPolicyPort PolicyGenerator::port() {
  k8s::NetworkPolicyPort port;
  const ProbedPort& known = pick(kProbedPorts);
  if (chance(80)) port.set_protocol(known.name);
  if (chance(15)) return port;
  if (chance(30)) {
    port.mutable_port()->set_type(1);
    port.mutable_port()->set_strval(chance(70) ? "http" : "dns");
    return port;
  }
  port.mutable_port()->set_type(0);
  port.mutable_port()->set_intval(known.number);
  if (chance(25)) port.set_endport(std::min(65535, known.number + static_cast<int>(below(9000))));
  return port;
}

k8s::NetworkPolicy PolicyGenerator::policy(const std::string& key) {
  k8s::NetworkPolicy policy;
  policy.mutable_metadata()->set_namespace_(key.substr(0, key.find('/')));
  policy.mutable_metadata()->set_name(key.substr(key.find('/') + 1));
  auto& spec = *policy.mutable_spec();
  *spec.mutable_podselector() = selector();
  const auto ports = [this](auto& rule) {
    for (std::size_t count = chance(35) ? 0 : 1 + below(3); count > 0; --count) *rule.add_ports() = port();
  };
  for (std::size_t count = below(3); count > 0; --count) {
    auto& rule = *spec.add_ingress();
    ports(rule);
    for (std::size_t peers = below(4); peers > 0; --peers) *rule.add_from() = peer();
  }
  for (std::size_t count = below(3); count > 0; --count) {
    auto& rule = *spec.add_egress();
    ports(rule);
    for (std::size_t peers = below(4); peers > 0; --peers) *rule.add_to() = peer();
  }
  if (chance(70)) {
    if (chance(70)) spec.add_policytypes("Ingress");
    if (chance(70) || spec.policytypes().empty()) spec.add_policytypes("Egress");
  }
  return policy;
}

void Coverage::count_selector(const k8s::LabelSelector& selector) {
  for (const auto& expression : selector.matchexpressions()) count(expression.operator_());
}

void Coverage::count_peer(const k8s::NetworkPolicyPeer& peer, const std::string& direction) {
  if (peer.has_ipblock()) {
    count("ipBlock, " + direction);
    if (!peer.ipblock().except().empty()) count("except");
    if (peer.ipblock().cidr().contains(':')) count("ipBlock of IPv6");
    return;
  }
  const char* what = !peer.has_namespaceselector() ? "podSelector peer, "
                     : !peer.has_podselector()     ? "namespaceSelector peer, "
                                                   : "both selectors, ";
  count(what + direction);
  count_selector(peer.podselector());
}

void Coverage::count_ports(const auto& rule) {
  if (rule.ports().empty()) count("no ports");
  if (rule.ports().size() > 1) count("several ports");
  for (const auto& port : rule.ports()) {
    count(port.has_protocol() ? port.protocol() : "protocol by default");
    if (!port.has_port()) count("all ports of a protocol");
    if (port.has_port() && port.port().type() == 1) count("named port");
    if (port.has_endport()) count("endPort");
  }
}

void Coverage::count(const k8s::NetworkPolicy& policy) {
  const auto& spec = policy.spec();
  count(spec.podselector().matchlabels().empty() && spec.podselector().matchexpressions().empty()
            ? "podSelector, empty"
            : "podSelector, matchLabels");
  count_selector(spec.podselector());
  if (spec.policytypes().empty()) {
    count(spec.egress().empty() ? "policyTypes by default, ingress" : "policyTypes by default, both");
  } else {
    count(spec.policytypes().size() > 1        ? "policyTypes, both"
          : spec.policytypes()[0] == "Ingress" ? "policyTypes, ingress only"
                                               : "policyTypes, egress only");
  }
  if (spec.ingress().empty() && spec.egress().empty()) count("no rule");
  for (const auto& rule : spec.ingress()) {
    count_ports(rule);
    if (rule.from().empty()) count("any peer, ingress");
    if (rule.from().size() > 1) count("several peers");
    for (const auto& peer : rule.from()) count_peer(peer, "ingress");
  }
  for (const auto& rule : spec.egress()) {
    count_ports(rule);
    if (rule.to().empty()) count("any peer, egress");
    if (rule.to().size() > 1) count("several peers");
    for (const auto& peer : rule.to()) count_peer(peer, "egress");
  }
}

std::vector<std::string> Coverage::missing() const {
  std::vector<std::string> missing;
  for (const char* part : kParts) {
    if (!counts_.contains(part)) missing.emplace_back(part);
  }
  return missing;
}

}  // namespace fairlead::model
