// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/watch.h"

#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "agent/netlink/message.h"
#include "agent/netlink/routes.h"

namespace fairlead::netlink {

Result<std::unique_ptr<Watch>> Watch::start(Loop& loop, Handlers handlers) {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups =
      RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_NEIGH;
  if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_errno(errno, "subscribe to changes of devices, addresses, routes and neighbours");
  }
  return std::unique_ptr<Watch>(new Watch(loop, std::move(fd), std::move(handlers)));
}

Watch::Watch(Loop& loop, UniqueFd fd, Handlers handlers)
    : fd_(std::move(fd)),
      handlers_(std::move(handlers)),
      subscription_(loop.watch(fd_.get(), Loop::Ready::kRead, [this] { read(); })) {}

void Watch::read() {
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
      tell(header);
    }
  }
}

void Watch::tell(const nlmsghdr* header) const {
  switch (header->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return handlers_.links();
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return handlers_.addresses();
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      if (const auto route = read_route(header)) handlers_.route(*route, header->nlmsg_type == RTM_DELROUTE);
      return;
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH: {
      const auto* info = static_cast<const ndmsg*>(NLMSG_DATA(header));
      const bool gone = header->nlmsg_type == RTM_DELNEIGH;
      if (!gone && (info->ndm_state & NUD_PERMANENT) == 0) return;
      auto* message = const_cast<nlmsghdr*>(header);
      const nlattr* address = nlmsg_find_attr(message, sizeof(*info), NDA_DST);
      const nlattr* bytes = nlmsg_find_attr(message, sizeof(*info), NDA_LLADDR);
      if (address == nullptr) return;
      std::optional<Mac> mac;
      if (!gone) mac.emplace();
      if (mac && bytes != nullptr && nla_len(bytes) == 6) std::memcpy(mac->data(), nla_data(bytes), mac->size());
      return handlers_.neighbour(static_cast<std::uint32_t>(info->ndm_ifindex), read_address(address), mac);
    }
    default:
      return;
  }
}

}  // namespace fairlead::netlink
