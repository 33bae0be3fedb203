// SPDX-License-Identifier: Apache-2.0
// Sets of ports as lists of ranges. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/datapath/policy_maps.h"

namespace fairlead::policy {

using Ranges = std::vector<datapath::PortRange>;

// Every protocol, with ports or without.
inline constexpr datapath::PortRange kAllPorts{0, 0, 65535};

// The same set in its shortest form: ascending, what touches joined, nothing beside kAllPorts.
Ranges join(Ranges ranges);
// Whether `joined` holds all of `wanted`.
bool covers(const Ranges& joined, const Ranges& wanted);
// Whether a packet of `protocol` (IPPROTO_*) to `port` (0 where it has none) is in the set.
bool contains(const Ranges& ranges, std::uint8_t protocol, std::uint16_t port);

// "80/TCP", "8000-9000/UDP", "all/TCP", "all".
std::string str(const datapath::PortRange& range);

}  // namespace fairlead::policy
