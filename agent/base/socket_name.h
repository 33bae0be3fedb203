// SPDX-License-Identifier: Apache-2.0
// SocketName: where a socket is bound or connected to, as system calls want it.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>

#include "agent/base/ip.h"

namespace fairlead {

// Made empty, for a system call to fill.
struct SocketName {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  sa_family_t family() const { return storage.ss_family; }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// Of the address's own family; `port` in host order.
SocketName socket_name(const IpAddress& address, std::uint16_t port);
// What it says; nothing where that is neither IPv4 nor IPv6. A v4-mapped address stays IPv6.
std::optional<SocketAddress> socket_address(const sockaddr& name);

}  // namespace fairlead
