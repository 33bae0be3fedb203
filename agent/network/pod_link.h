// SPDX-License-Identifier: Apache-2.0
// The two ends of a pod's veth: how they are made, connected and looked after.
#pragma once

#include <cstdint>
#include <vector>

#include "agent/base/ip.h"
#include "agent/netlink/netns.h"
#include "agent/network/attachment.h"

namespace fairlead::network {

// Makes the pair, both ends down, the pod's inside `pod`, and marks the host side as ours. Returns its ifindex; on
// failure nothing is left.
Result<std::uint32_t> make_pod_link(netlink::Socket& host, const netlink::Netns& pod, const Attachment& attachment,
                                    std::uint32_t mtu);

// Pod side, inside its namespace: loopback up, addresses, gateway neighbour, up, default routes. Repeating it is
// harmless.
Result<> connect_pod_side(netlink::Netns& pod, const Attachment& attachment);

// Host side: neighbours, forwarding, up, and a route to each address, with the node's own address of that family as
// source of what the host sends. Repeating it is harmless.
Result<> connect_host_side(netlink::Socket& host, std::uint32_t ifindex, const Attachment& attachment,
                           const std::vector<IpAddress>& node_ips);

// Compares the pod side with what connect_pod_side() made. kNotFound names what is missing.
Result<> verify_pod_side(netlink::Netns& pod, const Attachment& attachment);

}  // namespace fairlead::network
