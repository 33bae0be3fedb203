// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/sock_diag.h"

#include <fcntl.h>
#include <linux/sock_diag.h>
#include <sched.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "agent/netlink/message.h"

namespace fairlead::netlink {

Result<SockDiag> SockDiag::open_in(const std::string& path) {
  const UniqueFd there(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!there) return fail_errno(errno, fmt::format("open network namespace {}", path));
  const UniqueFd own(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!own) return fail_errno(errno, "open the thread's own network namespace");
  if (setns(there.get(), CLONE_NEWNET) != 0) {
    return fail_errno(errno, fmt::format("enter network namespace {}", path));
  }
  auto kernel = Conversation::open(NETLINK_SOCK_DIAG);
  if (setns(own.get(), CLONE_NEWNET) != 0) std::abort();  // a thread that is astray must do nothing more
  if (!kernel) return fail_with(std::move(kernel).error(), fmt::format("network namespace {}", path));
  return SockDiag(std::move(*kernel));
}

Result<bool> SockDiag::destroy(const KernelSocket& socket) {
  inet_diag_req_v2 request{};
  request.sdiag_family = socket.family;
  request.sdiag_protocol = socket.protocol;
  request.id = socket.id;
  Message message(SOCK_DESTROY, 0, request);
  const auto ended = kernel_.exchange(message, "end a socket");
  if (ended) return true;
  if (ended.error().sys == ENOENT) return false;
  return std::unexpected(ended.error());
}

}  // namespace fairlead::netlink
