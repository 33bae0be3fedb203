// SPDX-License-Identifier: Apache-2.0
// Which IP families a Service has.
#pragma once

#include <algorithm>
#include <vector>

#include "agent/model/rows.h"

namespace fairlead::services {

// The families that `service` names, or of the addresses that it declares, or else the first that the node has; with a
// dual-stack policy, all others of the node besides. `configured`: families of the service CIDRs, in order. Primary
// first.
inline std::vector<Family> families_of(const model::Service& service, const std::vector<Family>& configured) {
  std::vector<Family> families = service.families;
  const auto add = [&](Family family) {
    if (std::ranges::find(families, family) == families.end()) families.push_back(family);
  };
  if (families.empty()) {
    for (const IpAddress& address : service.cluster_ips) add(address.family());
  }
  if (families.empty() && !configured.empty()) add(configured.front());
  if (service.family_policy != model::FamilyPolicy::kSingleStack) {
    for (const Family family : configured) add(family);
  }
  return families;
}

}  // namespace fairlead::services
