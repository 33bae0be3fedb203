/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The tunnel between nodes: one VXLAN device, which knows by the MAC that a frame is for which node to send it to. (One
 * that is told so packet by packet allocates, and frees after a grace period, a description of each that it receives.)
 */
#pragma once

#include "bpf/abi/tunnel.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/path.h"

/* Addresses the frame to `node`; false where it has no room for a header. */
static __always_inline bool set_tunnel(struct __sk_buff *skb, const struct ipv6_address *node)
{
	struct ethhdr *eth = frame_with(skb, 0);
	__u32 value = 0;

	if (!eth)
		return false;
	for (int i = is_mapped_v4(node) ? 3 : 0; i < 4; i++)
		value = value * TUNNEL_MAC_FACTOR + node->words[i];
	eth->h_dest[0] = TUNNEL_MAC_FIRST;
	eth->h_dest[1] = TUNNEL_MAC_SECOND;
	__builtin_memcpy(&eth->h_dest[2], &value, sizeof(value));
	return true;
}
