// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/netns.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <optional>
#include <utility>

namespace fairlead::netlink {
namespace {

Result<std::uint64_t> cookie_of(const Socket& socket) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  if (getsockopt(socket.fd(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0) {
    return fail_errno(errno, "read the network namespace's cookie");
  }
  return cookie;
}

}  // namespace

Result<> inside_netns(const std::string& path, const std::function<Result<>(UniqueFd)>& open) {
  UniqueFd there(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!there) return fail_errno(errno, fmt::format("open network namespace {}", path));
  const UniqueFd own(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!own) return fail_errno(errno, "open the thread's own network namespace");
  if (setns(there.get(), CLONE_NEWNET) != 0) {
    const int sys = errno;
    if (sys == EINVAL) return fail(Code::kInvalid, "{} is not a network namespace", path);
    return fail_errno(sys, fmt::format("enter network namespace {}", path));
  }
  Result<> opened = open(std::move(there));
  if (setns(own.get(), CLONE_NEWNET) != 0) std::abort();  // a thread that is astray must do nothing more
  return opened;
}

Result<Netns> open_netns(const std::string& path) {
  std::optional<Netns> netns;
  FL_TRY(inside_netns(path, [&](UniqueFd fd) -> Result<> {
    FL_LET(Socket socket, Socket::open());
    FL_LET(const std::uint64_t cookie, cookie_of(socket));
    netns.emplace(std::move(fd), cookie, std::move(socket));
    return {};
  }));
  return std::move(*netns);
}

Result<std::uint64_t> own_netns_cookie() {
  FL_LET(const Socket socket, Socket::open());
  return cookie_of(socket);
}

}  // namespace fairlead::netlink
