// SPDX-License-Identifier: Apache-2.0
// What the defaults of a configuration take from the machine; gathered once, so that reading a configuration is pure.
#pragma once

#include <string>
#include <vector>

#include "agent/base/ip.h"

namespace fairlead::config {

struct HostFacts {
  std::string hostname;
  // Source addresses of the default routes, IPv4 first; where there is no such route, of the first interface that has
  // a global address.
  std::vector<IpAddress> addresses;
  std::vector<std::string> cgroup2_mounts;  // where the cgroup2 hierarchy is mounted
  bool in_cluster = false;                  // we run as a pod: a service account is at hand
};

HostFacts read_host_facts();

}  // namespace fairlead::config
