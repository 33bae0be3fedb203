// SPDX-License-Identifier: Apache-2.0
// Network namespaces of others, worked in without moving the thread that works.
#pragma once

#include <cstdint>
#include <string>

#include "agent/netlink/socket.h"

namespace fairlead::netlink {

// A namespace held open: it lives as long as this does.
struct Netns {
  UniqueFd fd;
  std::uint64_t cookie = 0;  // SO_NETNS_COOKIE: what BPF programs and socket hooks see
  Socket socket;             // works inside the namespace, from any thread
};

// Opens the namespace at `path`. kNotFound: no such file; kInvalid: it is not a network namespace.
// A thread that lives for this call enters the namespace and makes the socket in there (about 0.1 ms).
Result<Netns> open_netns(const std::string& path);

// The cookie of the calling thread's own namespace.
Result<std::uint64_t> own_netns_cookie();

}  // namespace fairlead::netlink
