// SPDX-License-Identifier: Apache-2.0
// SocketName: where a socket is bound or connected to, as system calls want it.
#pragma once

#include <sys/socket.h>

#include "agent/base/ip.h"

namespace fairlead::testkit {

struct SocketName {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

// Of the address's own family; `port` in host order.
SocketName socket_name(const IpAddress& address, std::uint16_t port);

}  // namespace fairlead::testkit
