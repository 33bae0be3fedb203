// SPDX-License-Identifier: Apache-2.0
// SockDiag: finds and ends sockets of one network namespace from outside.
#pragma once

#include <linux/inet_diag.h>

#include <cstdint>
#include <functional>
#include <string>

#include "agent/base/result.h"
#include "agent/netlink/conversation.h"

namespace fairlead::netlink {

// A socket as the kernel names it. The cookie in `id` makes it this one and no later one of the same tuple.
struct KernelSocket {
  std::uint8_t family = 0;    // AF_INET; AF_INET6, also where the addresses are v4-mapped
  std::uint8_t protocol = 0;  // IPPROTO_TCP, IPPROTO_UDP
  inet_diag_sockid id{};
};

using VisitSocket = std::function<void(const KernelSocket&)>;

// Owner and thread: one module on its loop. Works in one namespace for good, which does not end meanwhile; so it is not
// to be kept. Cost: a system call or two a socket.
class SockDiag {
 public:
  // In the namespace at `path`. The calling thread is in there while this runs (0.02 ms), and then back in its own.
  static Result<SockDiag> open_in(const std::string& path);

  // Visits the connected sockets of `family` (AF_INET, AF_INET6) and `protocol`. One that comes, goes or moves
  // meanwhile may be missed. Cost: a walk over the machine's table of such sockets, whatever their namespace: 0.05 ms
  // for UDP. A kernel without CONFIG_INET_DIAG or CONFIG_INET_UDP_DIAG fails with ENOENT.
  Result<> visit_connected(std::uint8_t family, std::uint8_t protocol, const VisitSocket& visit);

  // Ends the socket: its owner's calls fail with ECONNABORTED, a TCP peer is sent a reset. False: it is gone already.
  // A kernel without CONFIG_INET_DIAG_DESTROY fails with EOPNOTSUPP.
  Result<bool> destroy(const KernelSocket& socket);

 private:
  explicit SockDiag(Conversation kernel) : kernel_(std::move(kernel)) {}
  Conversation kernel_;
};

}  // namespace fairlead::netlink
