// SPDX-License-Identifier: Apache-2.0
// What the maps say of a packet, by their contents alone: as the BPF programs judge it. Pure.
#pragma once

#include <cstdint>

#include "agent/datapath/policy_maps.h"

namespace fairlead::policy {

// The exact entry, else that of the longest CIDR, else the world.
datapath::Identity identity_of(const datapath::PolicyContents& maps, const IpAddress& address);

// Whether the rule set allows a new connection with `peer` to `port` (0 where the protocol has none). A rule set that
// is not there allows nothing.
bool allows(const datapath::PolicyContents& maps, datapath::RuleSetId rules, datapath::Identity peer,
            std::uint8_t protocol, std::uint16_t port);

}  // namespace fairlead::policy
