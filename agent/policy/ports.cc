// SPDX-License-Identifier: Apache-2.0
#include "agent/policy/ports.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "agent/base/ip.h"

namespace fairlead::policy {

Ranges join(Ranges ranges) {
  if (std::ranges::find(ranges, kAllPorts) != ranges.end()) return {kAllPorts};
  std::ranges::sort(ranges);
  Ranges joined;
  for (const datapath::PortRange& each : ranges) {
    if (!joined.empty() && joined.back().protocol == each.protocol && each.first <= joined.back().last + 1) {
      joined.back().last = std::max(joined.back().last, each.last);
    } else {
      joined.push_back(each);
    }
  }
  return joined;
}

bool covers(const Ranges& joined, const Ranges& wanted) {
  return std::ranges::all_of(wanted, [&](const datapath::PortRange& want) {
    return std::ranges::any_of(joined, [&](const datapath::PortRange& have) {
      return have == kAllPorts ||
             (have.protocol == want.protocol && have.first <= want.first && want.last <= have.last);
    });
  });
}

bool contains(const Ranges& ranges, std::uint8_t protocol, std::uint16_t port) {
  return std::ranges::any_of(ranges, [&](const datapath::PortRange& range) {
    return range.protocol == 0 || (range.protocol == protocol && range.first <= port && port <= range.last);
  });
}

std::string str(const datapath::PortRange& range) {
  if (range == kAllPorts) return "all";
  const std::string protocol(to_string(static_cast<Protocol>(range.protocol)));
  if (range.first == 0 && range.last == kAllPorts.last) return "all/" + protocol;
  if (range.first == range.last) return fmt::format("{}/{}", range.first, protocol);
  return fmt::format("{}-{}/{}", range.first, range.last, protocol);
}

}  // namespace fairlead::policy
