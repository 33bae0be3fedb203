// SPDX-License-Identifier: Apache-2.0
// Annotations on Services that say what no field of the API can: how connections are spread.
//
//   fairlead.io/load-balancing: maglev              one of the words of agent/base/balancing.h
//   fairlead.io/zone-weights: zone-a=3,zone-b=0     what a backend of the zone weighs, 0 to 100; other zones weigh 1
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "agent/base/balancing.h"
#include "agent/base/result.h"

namespace fairlead::kube {

inline constexpr auto kBalancingAnnotation = "fairlead.io/load-balancing";
inline constexpr auto kZoneWeightsAnnotation = "fairlead.io/zone-weights";

// kInvalid, with what is wrong, for any other text.
Result<Balancing> read_balancing(std::string_view text);
Result<std::map<std::string, std::uint32_t>> read_zone_weights(std::string_view text);

}  // namespace fairlead::kube
