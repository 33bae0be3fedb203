// SPDX-License-Identifier: Apache-2.0
// Capabilities: what a container runtime asks for one attachment alone (CNI conventions, "runtimeConfig").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/local_protocol.h"
#include "agent/base/mac.h"

namespace fairlead::network {

// A port of the node that leads to the pod. Ports in host order.
struct PortMapping {
  std::uint16_t host_port = 0;
  std::uint16_t container_port = 0;
  Protocol protocol = Protocol::kTcp;
  std::optional<IpAddress> host_ip;  // none: every address of the node; unspecified (0.0.0.0, ::): all of that family
  auto operator<=>(const PortMapping&) const = default;
  // "10.0.0.1:80/TCP", "*:80/TCP".
  std::string str() const;
};

// Whether a packet could be meant for both.
bool collide(const PortMapping& a, const PortMapping& b);

// Bits a second, and bits; 0: not limited, or as the rate suggests.
struct Bandwidth {
  std::uint64_t ingress_rate = 0;  // to the pod
  std::uint64_t ingress_burst = 0;
  std::uint64_t egress_rate = 0;  // from it
  std::uint64_t egress_burst = 0;
  bool operator==(const Bandwidth&) const = default;
};

struct Capabilities {
  std::vector<PortMapping> port_mappings;
  Bandwidth bandwidth;
  std::vector<IpAddress> ips;  // at most one of a family; of the others the node chooses
  std::optional<Mac> mac;      // the pod side's
  bool operator==(const Capabilities&) const = default;
};

// Reads a runtimeConfig; null or absent members ask for nothing, unknown ones are left alone. Mappings of host port 0
// are none. kInvalid names the field: "runtimeConfig.portMappings[1].hostPort: …".
Result<Capabilities> parse_capabilities(const Json& runtime_config);
// The way back; an empty object where nothing is asked.
Json to_json(const Capabilities& capabilities);

}  // namespace fairlead::network
