// SPDX-License-Identifier: Apache-2.0
#include <k8s/service.pb.h>

#include <algorithm>
#include <set>

#include "agent/base/ip.h"
#include "agent/kube/annotations.h"
#include "agent/kube/validate/checker.h"
#include "agent/kube/validate/names.h"
#include "agent/kube/validate/validate.h"

namespace fairlead::kube {
namespace {

void check_target(Checker& check, const std::string& field, const k8s::IntOrString& target) {
  if (target.type() == 1) {
    check.invalid(field, target.strval(), not_port_name(target.strval()));
  } else {
    check.port(field, target.intval());
  }
}

void check_ports(Checker& check, const k8s::ServiceSpec& spec) {
  const bool external_name = spec.type() == "ExternalName";
  const bool headless = spec.clusterip() == "None";
  if (spec.ports().empty() && !external_name && !headless) check.required("spec.ports");
  std::set<std::string> names;
  std::set<std::pair<std::string, std::int32_t>> numbers;
  for (int i = 0; i < spec.ports_size(); ++i) {
    const k8s::ServicePort& port = spec.ports(i);
    const std::string path = at("spec.ports", i);
    if (port.name().empty()) {
      if (spec.ports_size() > 1) check.required(path + ".name");
    } else {
      check.invalid(path + ".name", port.name(), not_dns_label(port.name()));
      if (!names.insert(port.name()).second) check.duplicate(path + ".name", port.name());
    }
    check.port(path + ".port", port.port());
    check.one_of(path + ".protocol", port.protocol(), {"SCTP", "TCP", "UDP"});
    if (!headless && !external_name) check_target(check, path + ".targetPort", port.targetport());
    if (!numbers.emplace(port.protocol(), port.port()).second) {
      check.duplicate(path, fmt::format("{}/{}", port.port(), port.protocol()));
    }
    if (port.nodeport() != 0) {
      check.between(path + ".nodePort", port.nodeport(), 1, 65535);
      if (spec.type() != "NodePort" && spec.type() != "LoadBalancer") {
        check.forbidden(path + ".nodePort", fmt::format("may not be used when `type` is '{}'", spec.type()));
      }
    }
  }
}

void check_addresses(Checker& check, const k8s::ServiceSpec& spec) {
  std::set<std::string> seen;
  std::set<Family> families;
  for (int i = 0; i < spec.clusterips_size(); ++i) {
    const std::string& text = spec.clusterips(i);
    const std::string path = at("spec.clusterIPs", i);
    if (text == "None") {
      if (spec.clusterips_size() > 1) check.invalid(path, text, "'None' must stand alone");
      continue;
    }
    const auto address = IpAddress::parse(text);
    if (!address) {
      check.invalid(path, text, "must be a valid IP address");
    } else if (!families.insert(address->family()).second) {
      check.invalid(path, text, "may hold no more than one IP for each IP family");
    }
    if (!seen.insert(text).second) check.duplicate(path, text);
  }
  if (spec.clusterips_size() > 0 && spec.clusterip() != spec.clusterips(0)) {
    check.invalid("spec.clusterIPs", spec.clusterips(0), "first value must match `clusterIP`");
  }
  std::set<std::string> named;
  for (int i = 0; i < spec.ipfamilies_size(); ++i) {
    const std::string& family = spec.ipfamilies(i);
    check.one_of(at("spec.ipFamilies", i), family, {"IPv4", "IPv6"});
    if (!named.insert(family).second) check.duplicate(at("spec.ipFamilies", i), family);
    if (i >= spec.clusterips_size()) continue;
    const auto address = IpAddress::parse(spec.clusterips(i));
    if (address && (address->is_v4() ? "IPv4" : "IPv6") != family) {
      check.invalid(at("spec.clusterIPs", i), spec.clusterips(i),
                    "expected an " + family + " value as indicated by `ipFamilies`");
    }
  }
  if (!spec.ipfamilypolicy().empty()) {
    check.one_of("spec.ipFamilyPolicy", spec.ipfamilypolicy(), {"SingleStack", "PreferDualStack", "RequireDualStack"});
    if (spec.ipfamilypolicy() == "SingleStack" && std::max(spec.ipfamilies_size(), spec.clusterips_size()) > 1) {
      check.invalid("spec.ipFamilyPolicy", spec.ipfamilypolicy(), "one family only, but two are asked for");
    }
  }
  for (int i = 0; i < spec.externalips_size(); ++i) {
    const std::string& text = spec.externalips(i);
    const auto address = IpAddress::parse(text);
    if (!address || address->is_unspecified() || address->is_loopback() || address->is_link_local() ||
        address->is_multicast()) {
      check.invalid(at("spec.externalIPs", i), text, "must be an IP address that can be routed to");
    }
  }
}

void check_annotations(Checker& check, const k8s::ObjectMeta& meta) {
  const auto read = [&](const char* name, auto parse) {
    const auto at = meta.annotations().find(name);
    if (at == meta.annotations().end()) return;
    if (const auto value = parse(at->second); !value) {
      check.invalid(fmt::format("metadata.annotations[{}]", name), at->second, value.error().message());
    }
  };
  read(kBalancingAnnotation, read_balancing);
  read(kZoneWeightsAnnotation, read_zone_weights);
}

}  // namespace

FieldErrors validate_service(const k8s::Service& service) {
  const k8s::ServiceSpec& spec = service.spec();
  Checker check;
  check.meta(service.metadata(), not_dns_label);
  check.one_of("spec.type", spec.type(), {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"});
  check_ports(check, spec);
  if (spec.type() == "ExternalName") {
    if (!spec.clusterip().empty()) check.forbidden("spec.clusterIP", "may not be set when `type` is 'ExternalName'");
    std::string_view name = spec.externalname();
    if (name.empty()) {
      check.required("spec.externalName");
    } else {
      if (name.ends_with('.')) name.remove_suffix(1);
      check.invalid("spec.externalName", spec.externalname(), not_dns_subdomain(name));
    }
  } else {
    check_addresses(check, spec);
    if (spec.clusterip() == "None" && spec.type() != "ClusterIP") {
      check.invalid("spec.clusterIP", spec.clusterip(), "may not be 'None' for this type of Service");
    }
  }
  for (const auto& [key, value] : spec.selector()) {
    check.invalid("spec.selector", key, not_label_key(key));
    check.invalid("spec.selector[" + key + "]", value, not_label_value(value));
  }
  check.one_of("spec.sessionAffinity", spec.sessionaffinity(), {"ClientIP", "None"});
  if (spec.sessionaffinity() == "ClientIP") {
    check.between("spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                  spec.sessionaffinityconfig().clientip().timeoutseconds(), 1, 86400);
  }
  const bool external = spec.type() == "NodePort" || spec.type() == "LoadBalancer" || !spec.externalips().empty();
  if (!external && !spec.externaltrafficpolicy().empty()) {
    check.invalid("spec.externalTrafficPolicy", spec.externaltrafficpolicy(),
                  "may only be set for externally-accessible services");
  }
  for (int i = 0; i < spec.loadbalancersourceranges_size(); ++i) {
    const std::string& range = spec.loadbalancersourceranges(i);
    if (spec.type() != "LoadBalancer") {
      check.forbidden("spec.loadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'");
    }
    if (!Cidr::parse(range)) check.invalid(at("spec.loadBalancerSourceRanges", i), range, "must be a valid CIDR value");
  }
  if (spec.has_trafficdistribution()) {
    check.one_of("spec.trafficDistribution", spec.trafficdistribution(),
                 {"PreferClose", "PreferSameZone", "PreferSameNode"});
  }
  if (!spec.externaltrafficpolicy().empty()) {
    check.one_of("spec.externalTrafficPolicy", spec.externaltrafficpolicy(), {"Cluster", "Local"});
  }
  if (!spec.internaltrafficpolicy().empty()) {
    check.one_of("spec.internalTrafficPolicy", spec.internaltrafficpolicy(), {"Cluster", "Local"});
  }
  check_annotations(check, service.metadata());
  return check.take();
}

}  // namespace fairlead::kube
