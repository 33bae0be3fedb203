// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/link_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace fairlead::netlink {

Result<std::unique_ptr<LinkWatch>> LinkWatch::start(Loop& loop, Handlers handlers) {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_errno(errno, "subscribe to changes of devices");
  }
  return std::unique_ptr<LinkWatch>(new LinkWatch(loop, std::move(fd), std::move(handlers)));
}

LinkWatch::LinkWatch(Loop& loop, UniqueFd fd, Handlers handlers)
    : fd_(std::move(fd)),
      handlers_(std::move(handlers)),
      subscription_(loop.watch(fd_.get(), Loop::Ready::kRead, [this] { read(); })) {}

void LinkWatch::read() {
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
      if (header->nlmsg_type != RTM_DELLINK) continue;
      const auto* link = static_cast<const ifinfomsg*>(NLMSG_DATA(header));
      // A bridge's port that leaves it is announced in the same way, of family AF_BRIDGE.
      if (link->ifi_family == AF_UNSPEC) handlers_.gone(static_cast<std::uint32_t>(link->ifi_index));
    }
  }
}

}  // namespace fairlead::netlink
