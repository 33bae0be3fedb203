// SPDX-License-Identifier: Apache-2.0
// What an earlier agent left in the Service maps, read back as values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "agent/base/result.h"
#include "agent/datapath/allocators.h"
#include "agent/datapath/load_balancer.h"
#include "agent/datapath/service_ids.h"
#include "agent/datapath/service_maps.h"

namespace fairlead::datapath {

// One entry as it is in the maps.
struct LiveService {
  ServiceEntry entry;
  Elements elements;  // its service, its backends in the order of entry.backends and entry.draining, its run
  std::uint32_t tag = 0;
  bool suspect = false;  // the maps do not (or may not) say so: write all of it again
};

struct Adopted {
  std::map<std::uint32_t, LiveService> services;  // by index; an inconsistent one has only frontends and is suspect
  std::set<IpAddress> addresses;                  // said to be some service's
  ServiceIds::Used used;
  RunAllocator runs;
  std::uint32_t next_tag = 1;
};

// What backend `i` of `entry` weighs; and weights that say nothing, taken out.
inline std::uint32_t weight_of(const ServiceEntry& entry, std::size_t i) {
  return entry.weights.empty() ? 1 : entry.weights[i];
}
inline void drop_equal_weights(ServiceEntry& entry) {
  if (std::ranges::adjacent_find(entry.weights, std::ranges::not_equal_to()) == entry.weights.end()) {
    entry.weights.clear();
  }
}

// Reads the maps whole: services that have frontends, their runs and backends. Elements that no such service holds
// (a crash in the middle of a change) are retired in the maps and count as free.
Result<Adopted> adopt(ServiceMaps& maps);

// Whether the maps' arrays say what `live` says.
bool arrays_match(const ServiceMaps& maps, const LiveService& live);

}  // namespace fairlead::datapath
