// SPDX-License-Identifier: Apache-2.0
// What a rule set says of a peer, as docs/packet-path.md tells under Policy: Rules. Pure.
#pragma once

#include <cstdint>

#include "agent/datapath/policy_maps.h"

namespace fairlead::model {

enum class Side { kIngress, kEgress };

// Whether `rules` (not 0) allow that side of a connection with `peer` on `port`. Shares no line with the programs.
bool allows(const datapath::PolicyContents& maps, datapath::RuleSetId rules, Side side, const IpAddress& peer,
            std::uint8_t protocol, std::uint16_t port);

}  // namespace fairlead::model
