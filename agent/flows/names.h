// SPDX-License-Identifier: Apache-2.0
// Names: what addresses and devices are called: pods of this node, and Services.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "agent/base/ip.h"
#include "agent/base/local_protocol.h"
#include "agent/model/rows.h"

namespace fairlead::flows {

// "TCP", "UDP", "SCTP", "ICMP", "ICMPv6", or the number.
std::string protocol_name(std::uint8_t protocol);

// Owner: the domain. "" stands for who is not known: pods elsewhere, the world.
class Names {
 public:
  void set_pod(const model::ServedNetns& row);
  void erase_pod(const model::ServedNetns& row);
  // Takes all Services as service.list tells them.
  void set_services(const Json& list);

  std::string pod(const IpAddress& address) const;  // "namespace/name"
  std::string pod_at(std::uint32_t ifindex) const;
  std::string service(const SocketAddress& frontend, std::uint8_t protocol) const;  // "namespace/name"

 private:
  struct Frontend {
    SocketAddress address;
    std::string protocol;
    auto operator<=>(const Frontend&) const = default;
  };
  std::map<IpAddress, std::string> pods_;
  std::map<std::uint32_t, std::string> devices_;
  std::map<Frontend, std::string> services_;
};

}  // namespace fairlead::flows
