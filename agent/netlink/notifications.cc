// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/notifications.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

namespace fairlead::netlink {

Result<UniqueFd> Notifications::subscribe(std::uint32_t groups, const char* what) {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_errno(errno, std::string("subscribe to changes of ") + what);
  }
  return fd;
}

Notifications::Notifications(Loop& loop, UniqueFd fd, Handlers handlers)
    : fd_(std::move(fd)),
      handlers_(std::move(handlers)),
      subscription_(loop.watch(fd_.get(), Loop::Ready::kRead, [this] { read(); })) {}

void Notifications::read() {
  alignas(nlmsghdr) std::array<char, 32U << 10> buffer;
  while (true) {
    const ssize_t size = recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == ENOBUFS) {
      handlers_.missed();
      continue;
    }
    if (size <= 0) return;
    auto left = static_cast<unsigned>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      handlers_.message(header);
    }
  }
}

}  // namespace fairlead::netlink
