// SPDX-License-Identifier: Apache-2.0
#include "agent/base/socket_name.h"

#include <netinet/in.h>

#include <array>
#include <cstring>

namespace fairlead {

SocketName socket_name(const IpAddress& address, std::uint16_t port) {
  SocketName name;
  if (address.is_v4()) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(name.storage);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&v4.sin_addr, address.bytes().data(), sizeof(v4.sin_addr));
    name.size = sizeof(v4);
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(name.storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&v6.sin6_addr, address.bytes().data(), sizeof(v6.sin6_addr));
    name.size = sizeof(v6);
  }
  return name;
}

std::optional<SocketAddress> socket_address(const sockaddr& name) {
  if (name.sa_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(name);
    std::array<std::uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &v4.sin_addr, bytes.size());
    return SocketAddress{IpAddress::from_v4(bytes), ntohs(v4.sin_port)};
  }
  if (name.sa_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(name);
    std::array<std::uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
    return SocketAddress{IpAddress::from_v6(bytes), ntohs(v6.sin6_port)};
  }
  return std::nullopt;
}

}  // namespace fairlead
