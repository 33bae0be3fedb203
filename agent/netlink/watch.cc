// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/watch.h"

#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstring>
#include <utility>

#include "agent/netlink/message.h"
#include "agent/netlink/routes.h"

namespace fairlead::netlink {

Result<std::unique_ptr<Watch>> Watch::start(Loop& loop, Handlers handlers) {
  FL_LET(UniqueFd fd, Notifications::subscribe(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                                   RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_NEIGH,
                                               "devices, addresses, routes and neighbours"));
  return std::unique_ptr<Watch>(new Watch(loop, std::move(fd), std::move(handlers)));
}

Watch::Watch(Loop& loop, UniqueFd fd, Handlers handlers)
    : handlers_(std::move(handlers)),
      notifications_(loop, std::move(fd),
                     {.message = [this](const nlmsghdr* message) { tell(message); }, .missed = handlers_.missed}) {}

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
      if (info->ndm_family == AF_BRIDGE) {
        const auto peer = read_neighbour(header);
        if (peer) handlers_.peer(static_cast<std::uint32_t>(info->ndm_ifindex), *peer, gone);
        return;
      }
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
