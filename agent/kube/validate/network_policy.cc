// SPDX-License-Identifier: Apache-2.0
#include <k8s/networkpolicy.pb.h>

#include "agent/base/ip.h"
#include "agent/kube/validate/checker.h"
#include "agent/kube/validate/names.h"
#include "agent/kube/validate/validate.h"

namespace fairlead::kube {
namespace {

void check_selector(Checker& check, const std::string& path, const k8s::LabelSelector& selector) {
  for (const auto& [key, value] : selector.matchlabels()) {
    check.invalid(path + ".matchLabels", key, not_label_key(key));
    check.invalid(path + ".matchLabels", value, not_label_value(value));
  }
  for (int i = 0; i < selector.matchexpressions_size(); ++i) {
    const k8s::LabelSelectorRequirement& each = selector.matchexpressions(i);
    const std::string field = at(path + ".matchExpressions", i);
    const std::string& op = each.operator_();
    if (op == "In" || op == "NotIn") {
      if (each.values().empty()) {
        check.required(field + ".values", "must be specified when `operator` is 'In' or 'NotIn'");
      }
    } else if (op == "Exists" || op == "DoesNotExist") {
      if (!each.values().empty()) {
        check.forbidden(field + ".values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
      }
    } else {
      check.invalid(field + ".operator", op, "not a valid selector operator");
    }
    check.invalid(field + ".key", each.key(), not_label_key(each.key()));
    for (int j = 0; j < each.values_size(); ++j) {
      check.invalid(at(field + ".values", j), each.values(j), not_label_value(each.values(j)));
    }
  }
}

void check_port(Checker& check, const std::string& path, const k8s::NetworkPolicyPort& port) {
  check.one_of(path + ".protocol", port.protocol(), {"SCTP", "TCP", "UDP"});
  const bool named = port.has_port() && port.port().type() == 1;
  if (named) {
    check.invalid(path + ".port", port.port().strval(), not_port_name(port.port().strval()));
  } else if (port.has_port()) {
    check.port(path + ".port", port.port().intval());
  }
  if (!port.has_endport()) return;
  if (!port.has_port()) {
    check.invalid(path + ".endPort", port.endport(), "may not be specified when `port` is not specified");
  } else if (named) {
    check.invalid(path + ".endPort", port.endport(), "may not be specified when `port` is non-numeric");
  } else {
    check.port(path + ".endPort", port.endport());
    if (port.endport() < port.port().intval()) {
      check.invalid(path + ".endPort", port.endport(), "must be greater than or equal to `port`");
    }
  }
}

void check_block(Checker& check, const std::string& path, const k8s::IPBlock& block) {
  if (block.cidr().empty()) return check.required(path + ".cidr");
  const auto cidr = Cidr::parse(block.cidr(), true);
  if (!cidr) return check.invalid(path + ".cidr", block.cidr(), "must be a valid CIDR value");
  for (int i = 0; i < block.except_size(); ++i) {
    const auto except = Cidr::parse(block.except(i), true);
    if (!except) {
      check.invalid(at(path + ".except", i), block.except(i), "must be a valid CIDR value");
    } else if (except->family() != cidr->family() || except->prefix() <= cidr->prefix() ||
               !cidr->contains(except->base())) {
      check.invalid(at(path + ".except", i), block.except(i), "must be a strict subset of `cidr`");
    }
  }
}

void check_peer(Checker& check, const std::string& path, const k8s::NetworkPolicyPeer& peer) {
  const bool selects = peer.has_podselector() || peer.has_namespaceselector();
  if (!selects && !peer.has_ipblock()) return check.required(path, "must specify a peer");
  if (selects && peer.has_ipblock()) return check.forbidden(path, "may not specify both ipBlock and another peer");
  if (peer.has_podselector()) check_selector(check, path + ".podSelector", peer.podselector());
  if (peer.has_namespaceselector()) check_selector(check, path + ".namespaceSelector", peer.namespaceselector());
  if (peer.has_ipblock()) check_block(check, path + ".ipBlock", peer.ipblock());
}

template <class Ports, class Peers>
void check_rule(Checker& check, const std::string& path, const Ports& ports, const char* peers_field,
                const Peers& peers) {
  for (int i = 0; i < ports.size(); ++i) check_port(check, at(path + ".ports", i), ports[i]);
  for (int i = 0; i < peers.size(); ++i) check_peer(check, at(path + "." + peers_field, i), peers[i]);
}

}  // namespace

FieldErrors validate_network_policy(const k8s::NetworkPolicy& policy) {
  constexpr int kTypes = 2;
  Checker check;
  check.meta(policy.metadata(), not_dns_subdomain);
  const k8s::NetworkPolicySpec& spec = policy.spec();
  check_selector(check, "spec.podSelector", spec.podselector());
  for (int i = 0; i < spec.ingress_size(); ++i) {
    check_rule(check, at("spec.ingress", i), spec.ingress(i).ports(), "from", spec.ingress(i).from());
  }
  for (int i = 0; i < spec.egress_size(); ++i) {
    check_rule(check, at("spec.egress", i), spec.egress(i).ports(), "to", spec.egress(i).to());
  }
  if (spec.policytypes_size() > kTypes) {
    check.invalid("spec.policyTypes", spec.policytypes_size(), "may not specify more than two policyTypes");
  }
  for (int i = 0; i < spec.policytypes_size(); ++i) {
    check.one_of(at("spec.policyTypes", i), spec.policytypes(i), {"Egress", "Ingress"});
  }
  return check.take();
}

}  // namespace fairlead::kube
