// SPDX-License-Identifier: Apache-2.0
#include "agent/services/host_ports.h"

#include <algorithm>

namespace fairlead::services {

std::map<std::string, datapath::ServiceEntry> compute_host_port(const std::string& key, const model::HostPort& row,
                                                                const std::vector<IpAddress>& node_ips) {
  std::map<std::string, datapath::ServiceEntry> entries;
  std::vector<IpAddress> served = row.host_address ? std::vector{*row.host_address} : node_ips;
  if (!row.host_address) {
    served.push_back(IpAddress::from_v4({127, 0, 0, 1}));
    served.push_back(IpAddress::from_v6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}));
  }
  for (const IpAddress& pod : row.pod_addresses) {
    datapath::ServiceEntry entry{.frontends = {}, .backends = {{pod, row.container_port}}, .shares_addresses = true};
    for (const IpAddress& address : served) {
      if (address.family() == pod.family()) entry.frontends.push_back({address, row.host_port, row.protocol});
    }
    if (entry.frontends.empty()) continue;
    std::ranges::sort(entry.frontends);
    entry.frontends.erase(std::ranges::unique(entry.frontends).begin(), entry.frontends.end());
    entries.emplace(fmt::format("{}/{}", key, static_cast<int>(pod.family())), std::move(entry));
  }
  return entries;
}

std::string host_port_key(const std::string& entry_name) {
  return entry_name.substr(0, entry_name.rfind('/'));
}

}  // namespace fairlead::services
