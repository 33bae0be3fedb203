// SPDX-License-Identifier: Apache-2.0
// Routes and neighbours as the kernel tells them. Private to agent/netlink.
#pragma once

#include <optional>

#include "agent/netlink/socket.h"

struct nlmsghdr;

namespace fairlead::netlink {

// Of an RTM_NEWROUTE or RTM_DELROUTE; nothing: not a unicast route of the main table, or IP at all.
std::optional<Route> read_route(const nlmsghdr* header);

// Of an RTM_NEWNEIGH or RTM_DELNEIGH, of a VXLAN device's peer too; nothing: it has no address, or no MAC.
std::optional<Neighbour> read_neighbour(const nlmsghdr* header);

}  // namespace fairlead::netlink
