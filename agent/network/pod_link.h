// SPDX-License-Identifier: Apache-2.0
// The two ends of a pod's veth: how they are made, connected and looked after.
#pragma once

#include <cstdint>
#include <vector>

#include "agent/base/ip.h"
#include "agent/netlink/netns.h"
#include "agent/netlink/token_bucket.h"
#include "agent/network/attachment.h"

namespace fairlead::network {

// Makes the pair, both ends down, the pod's inside `pod`, and marks the host side as ours. On failure nothing is left.
// kExists: either name is taken.
Result<netlink::VethEnds> make_pod_link(netlink::Socket& host, const netlink::Netns& pod, const Attachment& attachment,
                                        std::uint32_t mtu);

// Pod side, inside its namespace: loopback up, addresses, gateway neighbour, up, default routes. Repeating it is
// harmless. `ifindex`: in there.
Result<> connect_pod_side(netlink::Netns& pod, std::uint32_t ifindex, const Attachment& attachment);

// Host side: neighbours, forwarding, up, and a route to each address, with the node's own address of that family as
// source of what the host sends. Repeating it is harmless.
Result<> connect_host_side(netlink::Socket& host, std::uint32_t ifindex, const Attachment& attachment,
                           const std::vector<IpAddress>& node_ips);

// Limits what the pod gets and sends to what was asked for it: disciplines on the two ends of the pair. What it sends
// waits on the pod's own end, where its sockets feel it; a container that may configure its network could take that one
// off, and CHECK would say so.
Result<> limit_rates(netlink::Socket& host, netlink::Netns& pod, const netlink::VethEnds& ends,
                     const Attachment& attachment);
// Puts the limit of what the pod gets back, where it is gone.
Result<> restore_ingress_limit(netlink::Socket& host, std::uint32_t ifindex, const Attachment& attachment);
// kConflict where a limit is not in force.
Result<> verify_limits(netlink::Socket& host, netlink::Netns& pod, std::uint32_t ifindex, const Attachment& attachment);
// The discipline for `rate` bits a second and `burst` bits (0, or absurdly many: as the rate suggests). Room for a
// packet of the largest size that a stack hands over at once.
netlink::TokenBucket token_bucket(std::uint64_t rate, std::uint64_t burst);

// Compares the pod side with what connect_pod_side() made. kNotFound names what is missing.
Result<> verify_pod_side(netlink::Netns& pod, const Attachment& attachment);

}  // namespace fairlead::network
