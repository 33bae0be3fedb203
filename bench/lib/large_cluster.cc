// SPDX-License-Identifier: Apache-2.0
#include "bench/lib/large_cluster.h"

namespace fairlead::bench {
namespace {

constexpr std::uint32_t kFirstService = 256;  // below are addresses that the API server gives out itself
constexpr std::uint32_t kNodes = 500;
constexpr std::size_t kAtOnce = 64;

std::string name_of(std::uint32_t service) {
  return fmt::format("service-{}", service);
}

std::string slice_name(std::uint32_t service) {
  return fmt::format("service-{}-{:05x}", service, service * 40503U & 0xfffff);
}

// A uid that is always the same.
std::string uid_of(std::uint32_t kind, std::uint32_t number) {
  return fmt::format("{:08x}-0000-4000-8000-{:012x}", kind, number);
}

void set_ready(k8s::Endpoint& endpoint, bool ready) {
  endpoint.mutable_conditions()->set_ready(ready);
  endpoint.mutable_conditions()->set_serving(ready);
  endpoint.mutable_conditions()->set_terminating(false);
}

}  // namespace

IpAddress LargeCluster::cluster_ip(std::uint32_t service) {
  return Cidr::parse(kServiceCidr)->at(kFirstService + service);
}

IpAddress LargeCluster::endpoint(std::uint32_t service, std::uint32_t number) const {
  return Cidr::parse(kEndpointCidr)->at(std::uint64_t{1} + std::uint64_t{service} * endpoints + number);
}

k8s::Service LargeCluster::service(std::uint32_t number) {
  k8s::Service service;
  service.mutable_metadata()->set_name(name_of(number));
  service.mutable_metadata()->set_namespace_("default");
  (*service.mutable_metadata()->mutable_labels())["app"] = name_of(number);
  auto& spec = *service.mutable_spec();
  (*spec.mutable_selector())["app"] = name_of(number);
  spec.set_clusterip(cluster_ip(number).str());
  auto& port = *spec.add_ports();
  port.set_name("http");
  port.set_protocol("TCP");
  port.set_port(kPort);
  port.mutable_targetport()->set_type(1);
  port.mutable_targetport()->set_strval("http");
  return service;
}

k8s::EndpointSlice LargeCluster::slice(std::uint32_t service) const {
  k8s::EndpointSlice slice;
  auto& meta = *slice.mutable_metadata();
  meta.set_generatename(name_of(service) + "-");
  meta.set_name(slice_name(service));
  meta.set_namespace_("default");
  auto& labels = *meta.mutable_labels();
  labels["app"] = name_of(service);
  labels["kubernetes.io/service-name"] = name_of(service);
  labels["endpointslice.kubernetes.io/managed-by"] = "endpointslice-controller.k8s.io";
  (*meta.mutable_annotations())["endpoints.kubernetes.io/last-change-trigger-time"] = "2026-11-29T12:00:00Z";
  auto& owner = *meta.add_ownerreferences();
  owner.set_apiversion("v1");
  owner.set_kind("Service");
  owner.set_name(name_of(service));
  owner.set_uid(uid_of(1, service));
  owner.set_controller(true);
  owner.set_blockownerdeletion(true);
  slice.set_addresstype("IPv4");
  auto& port = *slice.add_ports();
  port.set_name("http");
  port.set_protocol("TCP");
  port.set_port(kTargetPort);
  for (std::uint32_t i = 0; i < endpoints; ++i) {
    const std::uint32_t pod = service * endpoints + i;
    auto& endpoint = *slice.add_endpoints();
    endpoint.add_addresses(this->endpoint(service, i).str());
    set_ready(endpoint, true);
    endpoint.set_nodename(fmt::format("node-{}", pod % kNodes));
    endpoint.set_zone(fmt::format("zone-{}", pod % kNodes % 3));
    auto& target = *endpoint.mutable_targetref();
    target.set_kind("Pod");
    target.set_namespace_("default");
    target.set_name(fmt::format("{}-6d4b75cb6d-{:05x}", name_of(service), pod));
    target.set_uid(uid_of(2, pod));
  }
  return slice;
}

k8s::EndpointSlice LargeCluster::slice(std::uint32_t service, std::uint32_t ready) const {
  k8s::EndpointSlice slice = this->slice(service);
  for (int i = 0; i < slice.endpoints_size(); ++i) {
    set_ready(*slice.mutable_endpoints(i), i == static_cast<int>(ready));
  }
  return slice;
}

Result<> LargeCluster::load(ApiClient& api, std::uint32_t first) const {
  const std::uint32_t count = services - first;
  FL_TRY(api.send_all(count, kAtOnce, [first](std::size_t i) {
    return write_request("POST", "/api/v1/namespaces/default/services", "v1", "Service",
                         service(first + static_cast<std::uint32_t>(i)));
  }));
  return api.send_all(count, kAtOnce, [this, first](std::size_t i) {
    return write_request("POST", kSlices, "discovery.k8s.io/v1", "EndpointSlice",
                         slice(first + static_cast<std::uint32_t>(i)));
  });
}

}  // namespace fairlead::bench
