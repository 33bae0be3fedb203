// SPDX-License-Identifier: Apache-2.0
#include <k8s/config.pb.h>
#include <k8s/endpointslice.pb.h>
#include <k8s/namespace.pb.h>
#include <k8s/node.pb.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/kube/validate/checker.h"
#include "agent/kube/validate/names.h"
#include "agent/kube/validate/validate.h"

namespace fairlead::kube {
namespace {
constexpr std::size_t kConfigBytes = 1U << 20;
constexpr int kMaxEndpoints = 1000;
constexpr int kMaxAddresses = 100;
constexpr int kMaxSlicePorts = 20000;

template <class Map>
std::size_t check_keys(Checker& check, const std::string& field, const Map& map) {
  std::size_t bytes = 0;
  for (const auto& [key, value] : map) {
    check.invalid(field + "[" + key + "]", key, not_config_key(key));
    bytes += value.size();
  }
  return bytes;
}
}  // namespace

FieldErrors validate_endpoint_slice(const k8s::EndpointSlice& slice) {
  Checker check;
  check.meta(slice.metadata(), not_dns_subdomain);
  if (slice.addresstype().empty()) {
    check.required("addressType");
  } else {
    check.one_of("addressType", slice.addresstype(), {"FQDN", "IPv4", "IPv6"});
  }
  if (slice.endpoints_size() > kMaxEndpoints) {
    check.invalid("endpoints", slice.endpoints_size(), fmt::format("must have at most {} items", kMaxEndpoints));
  }
  for (int i = 0; i < slice.endpoints_size(); ++i) {
    const k8s::Endpoint& endpoint = slice.endpoints(i);
    const std::string path = at("endpoints", i) + ".addresses";
    if (endpoint.addresses().empty()) check.required(path, "must contain at least 1 address");
    if (endpoint.addresses_size() > kMaxAddresses) {
      check.invalid(path, endpoint.addresses_size(), fmt::format("must have at most {} items", kMaxAddresses));
    }
    for (int j = 0; j < endpoint.addresses_size(); ++j) {
      const std::string& text = endpoint.addresses(j);
      if (slice.addresstype() == "FQDN") {
        check.invalid(at(path, j), text, not_dns_subdomain(text));
        continue;
      }
      const auto address = IpAddress::parse(text);
      if (!address || (address->is_v4() ? "IPv4" : "IPv6") != slice.addresstype()) {
        check.invalid(at(path, j), text, "must be a valid " + slice.addresstype() + " address");
      } else if (address->is_unspecified() || address->is_loopback() || address->is_link_local() ||
                 address->is_multicast()) {
        check.invalid(at(path, j), text, "may not be unspecified, loopback, link-local or multicast");
      }
    }
    if (!endpoint.hostname().empty()) {
      check.invalid(at("endpoints", i) + ".hostname", endpoint.hostname(), not_dns_label(endpoint.hostname()));
    }
    if (!endpoint.nodename().empty()) {
      check.invalid(at("endpoints", i) + ".nodeName", endpoint.nodename(), not_dns_subdomain(endpoint.nodename()));
    }
  }
  if (slice.ports_size() > kMaxSlicePorts) {
    check.invalid("ports", slice.ports_size(), fmt::format("must have at most {} items", kMaxSlicePorts));
  }
  std::set<std::string> names;
  for (int i = 0; i < slice.ports_size(); ++i) {
    const k8s::EndpointPort& port = slice.ports(i);
    const std::string path = at("ports", i);
    if (!port.name().empty()) check.invalid(path + ".name", port.name(), not_dns_label(port.name()));
    if (!names.insert(port.name()).second) check.duplicate(path + ".name", port.name());
    check.one_of(path + ".protocol", port.protocol(), {"SCTP", "TCP", "UDP"});
    if (port.has_port()) check.port(path + ".port", port.port());
  }
  return check.take();
}

FieldErrors validate_config_map(const k8s::ConfigMap& config) {
  Checker check;
  check.meta(config.metadata(), not_dns_subdomain);
  const std::size_t bytes =
      check_keys(check, "data", config.data()) + check_keys(check, "binaryData", config.binarydata());
  for (const auto& [key, value] : config.data()) {
    if (config.binarydata().contains(key))
      check.invalid("data[" + key + "]", key, "duplicate of key present in binaryData");
  }
  if (bytes > kConfigBytes) check.invalid("data", bytes, fmt::format("must be at most {} bytes", kConfigBytes));
  return check.take();
}

FieldErrors validate_secret(const k8s::Secret& secret) {
  // What a secret of a type must hold.
  static const std::map<std::string, std::vector<std::string>> kKeys{
      {"kubernetes.io/dockercfg", {".dockercfg"}},
      {"kubernetes.io/dockerconfigjson", {".dockerconfigjson"}},
      {"kubernetes.io/ssh-auth", {"ssh-privatekey"}},
      {"kubernetes.io/tls", {"tls.crt", "tls.key"}}};
  Checker check;
  check.meta(secret.metadata(), not_dns_subdomain);
  const std::size_t bytes = check_keys(check, "data", secret.data());
  if (const auto keys = kKeys.find(secret.type()); keys != kKeys.end()) {
    for (const std::string& key : keys->second) {
      const std::string field = "data[" + key + "]";
      const auto value = secret.data().find(key);
      if (value == secret.data().end()) {
        check.required(field);
      } else if (key.starts_with(".docker") && !nlohmann::json::accept(value->second)) {
        check.invalid(field, "<secret contents redacted>", "is not JSON");
      }
    }
  }
  if (secret.type() == "kubernetes.io/basic-auth" && !secret.data().contains("username") &&
      !secret.data().contains("password")) {
    check.required("data[username]");
    check.required("data[password]");
  }
  if (bytes > kConfigBytes) check.invalid("data", bytes, fmt::format("must be at most {} bytes", kConfigBytes));
  return check.take();
}

FieldErrors validate_node(const k8s::Node& node) {
  Checker check;
  check.meta(node.metadata(), not_dns_subdomain, false);
  const k8s::NodeSpec& spec = node.spec();
  if (!spec.podcidrs().empty() && spec.podcidr() != spec.podcidrs(0)) {
    check.invalid("spec.podCIDR", spec.podcidr(), "must be the first of podCIDRs");
  }
  std::set<Family> families;
  for (int i = 0; i < spec.podcidrs_size(); ++i) {
    const auto range = Cidr::parse(spec.podcidrs(i));
    if (!range) {
      check.invalid(at("spec.podCIDRs", i), spec.podcidrs(i),
                    "must be a valid CIDR value without host bits (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    } else if (!families.insert(range->family()).second) {
      check.invalid(at("spec.podCIDRs", i), spec.podcidrs(i), "may contain no more than one range of each family");
    }
  }
  for (int i = 0; i < node.status().addresses_size(); ++i) {
    const k8s::NodeAddress& each = node.status().addresses(i);
    const std::string path = at("status.addresses", i);
    check.one_of(path + ".type", each.type(), {"ExternalDNS", "ExternalIP", "Hostname", "InternalDNS", "InternalIP"});
    if (each.type() != "InternalIP" && each.type() != "ExternalIP") continue;
    const auto address = IpAddress::parse(each.address());
    if (!address) {
      check.invalid(path + ".address", each.address(), "must be a valid IP address");
    } else if (address->is_unspecified() || address->is_loopback() || address->is_link_local() ||
               address->is_multicast()) {
      check.invalid(path + ".address", each.address(), "may not be unspecified, loopback, link-local or multicast");
    }
  }
  return check.take();
}

FieldErrors validate_namespace(const k8s::Namespace& name_space) {
  Checker check;
  check.meta(name_space.metadata(), not_dns_label, false);
  return check.take();
}

}  // namespace fairlead::kube
