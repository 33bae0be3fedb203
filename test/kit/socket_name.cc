// SPDX-License-Identifier: Apache-2.0
#include "test/kit/socket_name.h"

#include <netinet/in.h>

#include <cstring>

namespace fairlead::testkit {

SocketName socket_name(const IpAddress& address, std::uint16_t port) {
  SocketName name;
  if (address.is_v4()) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(name.storage);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&v4.sin_addr, address.bytes().data(), 4);
    name.size = sizeof(v4);
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(name.storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&v6.sin6_addr, address.bytes().data(), 16);
    name.size = sizeof(v6);
  }
  return name;
}

}  // namespace fairlead::testkit
