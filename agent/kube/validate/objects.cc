// SPDX-License-Identifier: Apache-2.0
#include <k8s/config.pb.h>
#include <k8s/endpointslice.pb.h>
#include <k8s/namespace.pb.h>

#include <set>

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
    if (config.binarydata().contains(key)) check.invalid("binaryData[" + key + "]", key, "stands in data as well");
  }
  if (bytes > kConfigBytes) check.invalid("data", bytes, fmt::format("must be at most {} bytes", kConfigBytes));
  return check.take();
}

FieldErrors validate_secret(const k8s::Secret& secret) {
  Checker check;
  check.meta(secret.metadata(), not_dns_subdomain);
  const std::size_t bytes = check_keys(check, "data", secret.data());
  if (bytes > kConfigBytes) check.invalid("data", bytes, fmt::format("must be at most {} bytes", kConfigBytes));
  return check.take();
}

FieldErrors validate_namespace(const k8s::Namespace& name_space) {
  Checker check;
  check.meta(name_space.metadata(), not_dns_label, false);
  return check.take();
}

}  // namespace fairlead::kube
