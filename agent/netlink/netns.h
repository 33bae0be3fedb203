// SPDX-License-Identifier: Apache-2.0
// Network namespaces of others, worked in without moving the thread that works.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "agent/netlink/socket.h"

namespace fairlead::netlink {

// A namespace held open: it lives as long as this does.
struct Netns {
  UniqueFd fd;
  std::uint64_t cookie = 0;  // SO_NETNS_COOKIE: what BPF programs and socket hooks see
  Socket socket;             // works inside the namespace, from any thread
};

// Opens the namespace at `path`. kNotFound: no such file; kInvalid: it is not a network namespace. Cost: 0.02 ms.
Result<Netns> open_netns(const std::string& path);

// The calling thread is in the namespace at `path` while `open` runs, then back in its own: a socket that is opened in
// there stays there. Errors as open_netns()'s, and those of `open`. `open` gets the namespace's descriptor.
Result<> inside_netns(const std::string& path, const std::function<Result<>(UniqueFd)>& open);

// The cookie of the calling thread's own namespace.
Result<std::uint64_t> own_netns_cookie();

}  // namespace fairlead::netlink
