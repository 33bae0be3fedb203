// SPDX-License-Identifier: Apache-2.0
#include <k8s/config.pb.h>
#include <k8s/endpointslice.pb.h>
#include <k8s/networkpolicy.pb.h>
#include <k8s/node.pb.h>
#include <k8s/service.pb.h>

#include "agent/kube/defaults/defaults.h"

namespace fairlead::kube {
namespace {
constexpr std::int32_t kAffinitySeconds = 10800;
}

void default_service(k8s::Service& service) {
  k8s::ServiceSpec& spec = *service.mutable_spec();
  if (spec.type().empty()) spec.set_type("ClusterIP");
  if (spec.sessionaffinity().empty()) spec.set_sessionaffinity("None");
  if (spec.sessionaffinity() == "None") spec.clear_sessionaffinityconfig();
  if (spec.sessionaffinity() == "ClientIP" && !spec.sessionaffinityconfig().clientip().has_timeoutseconds()) {
    spec.mutable_sessionaffinityconfig()->mutable_clientip()->set_timeoutseconds(kAffinitySeconds);
  }
  if (spec.clusterips().empty() && !spec.clusterip().empty()) spec.add_clusterips(spec.clusterip());
  if (spec.clusterip().empty() && !spec.clusterips().empty()) spec.set_clusterip(spec.clusterips(0));
  for (k8s::ServicePort& port : *spec.mutable_ports()) {
    if (port.protocol().empty()) port.set_protocol("TCP");
    const k8s::IntOrString& target = port.targetport();
    if (target.type() == 1 ? target.strval().empty() : target.intval() == 0) {
      port.clear_targetport();
      port.mutable_targetport()->set_type(0);
      port.mutable_targetport()->set_intval(port.port());
    }
  }
  const bool external = spec.type() == "NodePort" || spec.type() == "LoadBalancer";
  const bool cluster = external || spec.type() == "ClusterIP";
  if ((external || (cluster && !spec.externalips().empty())) && spec.externaltrafficpolicy().empty()) {
    spec.set_externaltrafficpolicy("Cluster");
  }
  if (cluster && spec.internaltrafficpolicy().empty()) spec.set_internaltrafficpolicy("Cluster");
  if (spec.type() == "LoadBalancer" && !spec.has_allocateloadbalancernodeports()) {
    spec.set_allocateloadbalancernodeports(true);
  }
}

void default_endpoint_slice(k8s::EndpointSlice& slice) {
  for (k8s::EndpointPort& port : *slice.mutable_ports()) {
    if (!port.has_name()) port.set_name("");
    if (port.protocol().empty()) port.set_protocol("TCP");
  }
  for (k8s::Endpoint& endpoint : *slice.mutable_endpoints()) endpoint.mutable_conditions();
}

void default_node(k8s::Node& node) {
  k8s::NodeSpec& spec = *node.mutable_spec();
  if (spec.podcidrs().empty() && !spec.podcidr().empty()) spec.add_podcidrs(spec.podcidr());
  if (spec.podcidr().empty() && !spec.podcidrs().empty()) spec.set_podcidr(spec.podcidrs(0));
}

void default_network_policy(k8s::NetworkPolicy& policy) {
  k8s::NetworkPolicySpec& spec = *policy.mutable_spec();
  const auto fill = [](auto& rules) {
    for (auto& rule : rules) {
      for (k8s::NetworkPolicyPort& port : *rule.mutable_ports()) {
        if (port.protocol().empty()) port.set_protocol("TCP");
      }
    }
  };
  fill(*spec.mutable_ingress());
  fill(*spec.mutable_egress());
  if (!spec.policytypes().empty()) return;
  spec.add_policytypes("Ingress");
  if (!spec.egress().empty()) spec.add_policytypes("Egress");
}

void default_secret(k8s::Secret& secret) {
  if (secret.type().empty()) secret.set_type("Opaque");
  for (const auto& [key, text] : secret.stringdata()) (*secret.mutable_data())[key] = text;
  secret.clear_stringdata();
}

void default_manifest_meta(k8s::ObjectMeta& meta) {
  if (meta.namespace_().empty()) meta.set_namespace_("default");
  meta.clear_uid();
  meta.clear_resourceversion();
  meta.clear_generation();
  meta.clear_selflink();
  meta.clear_creationtimestamp();
  meta.clear_deletiontimestamp();
  meta.clear_deletiongraceperiodseconds();
  meta.clear_managedfields();
}

}  // namespace fairlead::kube
