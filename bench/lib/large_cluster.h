// SPDX-License-Identifier: Apache-2.0
// A cluster of many Services in a real API server, its objects as the cluster's own controllers write them.
#pragma once

#include <k8s/endpointslice.pb.h>
#include <k8s/service.pb.h>

#include <cstdint>

#include "agent/base/ip.h"
#include "bench/lib/api_client.h"

namespace fairlead::bench {

// Service number N is default/service-N at cluster_ip(N):80; its endpoints are pods of many nodes, at port 8080 of
// addresses that no other Service has.
struct LargeCluster {
  std::uint32_t services = 10'000;
  std::uint32_t endpoints = 25;  // of each Service, in one slice

  static constexpr auto kServiceCidr = "10.96.0.0/16";
  static constexpr auto kEndpointCidr = "10.128.0.0/9";
  static constexpr std::uint16_t kPort = 80;
  static constexpr std::uint16_t kTargetPort = 8080;
  static constexpr auto kSlices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

  static IpAddress cluster_ip(std::uint32_t service);
  IpAddress endpoint(std::uint32_t service, std::uint32_t number) const;
  static k8s::Service service(std::uint32_t service);
  // With all its endpoints ready.
  k8s::EndpointSlice slice(std::uint32_t service) const;
  // The same with endpoint `ready` alone ready.
  k8s::EndpointSlice slice(std::uint32_t service, std::uint32_t ready) const;

  // Writes the Services from number `first` on: a minute or so for 10,000.
  Result<> load(ApiClient& api, std::uint32_t first = 0) const;
};

}  // namespace fairlead::bench
