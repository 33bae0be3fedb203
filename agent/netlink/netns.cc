// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/netns.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>
#include <thread>

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

// On a thread of its own: the namespace of the thread changes for good.
Result<Netns> enter(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, fmt::format("open network namespace {}", path));
  if (setns(fd.get(), CLONE_NEWNET) != 0) {
    const int sys = errno;
    if (sys == EINVAL) return fail(Code::kInvalid, "{} is not a network namespace", path);
    return fail_errno(sys, fmt::format("enter network namespace {}", path));
  }
  FL_LET(Socket socket, Socket::open());
  FL_LET(const std::uint64_t cookie, cookie_of(socket));
  return Netns{std::move(fd), cookie, std::move(socket)};
}

}  // namespace

Result<Netns> open_netns(const std::string& path) {
  std::optional<Result<Netns>> result;
  std::jthread([&] { result.emplace(enter(path)); }).join();
  return std::move(*result);
}

Result<std::uint64_t> own_netns_cookie() {
  FL_LET(const Socket socket, Socket::open());
  return cookie_of(socket);
}

}  // namespace fairlead::netlink
