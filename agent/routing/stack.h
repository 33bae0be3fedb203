// SPDX-License-Identifier: Apache-2.0
// What the host's own stack must be told (sysctls) before packets pass between pods and other nodes.
#pragma once

#include <cstdint>
#include <string>

#include "agent/base/result.h"

namespace fairlead::routing {

// Lets the stack pass on what comes in at the device.
Result<> enable_forwarding(const std::string& device);

// For the tunnel's device: what other nodes themselves send to pods comes in here, though their addresses are routed by
// the uplink. Whatever net.ipv4.conf.all.rp_filter says, any route back will do.
Result<> loosen_reverse_path(const std::string& device);

// IPv6 asks the whole node (net.ipv6.conf.all.forwarding), never a device. Devices that listened to router
// advertisements go on doing so (accept_ra 1 becomes 2), which a forwarding node else would not.
Result<> enable_ipv6_forwarding();

// Keeps the kernel from giving ports of this range to sockets by itself (net.ipv4.ip_local_reserved_ports, which IPv6
// shares). What was reserved before stays so.
Result<> reserve_ports(std::uint16_t first, std::uint16_t last);

// `reserved` as the kernel writes it ("8080,9148-9150\n"), and this range; the same text where it is in there already.
std::string with_range(const std::string& reserved, std::uint16_t first, std::uint16_t last);

}  // namespace fairlead::routing
