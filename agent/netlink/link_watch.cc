// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/link_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <utility>

namespace fairlead::netlink {

Result<std::unique_ptr<LinkWatch>> LinkWatch::start(Loop& loop, Handlers handlers) {
  FL_LET(UniqueFd fd, Notifications::subscribe(RTMGRP_LINK, "devices", RTM_DELLINK));
  return std::unique_ptr<LinkWatch>(new LinkWatch(loop, std::move(fd), std::move(handlers)));
}

LinkWatch::LinkWatch(Loop& loop, UniqueFd fd, Handlers handlers)
    : handlers_(std::move(handlers)),
      notifications_(loop, std::move(fd),
                     {.message = [this](const nlmsghdr* message) { tell(message); }, .missed = handlers_.missed}) {}

void LinkWatch::tell(const nlmsghdr* message) const {
  if (message->nlmsg_type != RTM_DELLINK) return;
  const auto* link = static_cast<const ifinfomsg*>(NLMSG_DATA(message));
  // A bridge's port that leaves it is announced in the same way, of family AF_BRIDGE.
  if (link->ifi_family == AF_UNSPEC) handlers_.gone(static_cast<std::uint32_t>(link->ifi_index));
}

}  // namespace fairlead::netlink
