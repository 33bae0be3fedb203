// SPDX-License-Identifier: Apache-2.0
#include "agent/flows/names.h"

#include <netinet/in.h>

#include "agent/base/result.h"

namespace fairlead::flows {
namespace {

template <class Map, class Key>
std::string find_name(const Map& map, const Key& key) {
  const auto at = map.find(key);
  return at == map.end() ? "" : at->second;
}

}  // namespace

std::string protocol_name(std::uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP:
    case IPPROTO_UDP:
    case IPPROTO_SCTP:
      return std::string(to_string(static_cast<Protocol>(protocol)));
    case IPPROTO_ICMP:
      return "ICMP";
    case IPPROTO_ICMPV6:
      return "ICMPv6";
    default:
      return std::to_string(protocol);
  }
}

void Names::set_pod(const model::ServedNetns& row) {
  if (row.pod.name.empty()) return;
  for (const IpAddress& address : row.addresses) pods_[address] = row.pod.key();
  if (row.ifindex != 0) devices_[row.ifindex] = row.pod.key();
}

void Names::erase_pod(const model::ServedNetns& row) {
  for (const IpAddress& address : row.addresses) pods_.erase(address);
  devices_.erase(row.ifindex);
}

void Names::set_services(const Json& list) {
  services_.clear();
  for (const Json& service : list) {
    for (const Json& text : service.value("cluster_ips", Json::array())) {
      const auto address = IpAddress::parse(text.get<std::string>());
      if (!address) continue;
      for (const Json& port : service.value("ports", Json::array())) {
        services_[{{*address, port.value("port", std::uint16_t{0})}, port.value("protocol", "")}] =
            service.value("namespace", "") + "/" + service.value("name", "");
      }
    }
  }
}

std::string Names::pod(const IpAddress& address) const {
  return find_name(pods_, address);
}

std::string Names::pod_at(std::uint32_t ifindex) const {
  return find_name(devices_, ifindex);
}

std::string Names::service(const SocketAddress& frontend, std::uint8_t protocol) const {
  return find_name(services_, Frontend{frontend, protocol_name(protocol)});
}

}  // namespace fairlead::flows
