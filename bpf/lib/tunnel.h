/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The tunnel between nodes: one VXLAN device, which is told for each packet where to. */
#pragma once

#include "bpf/lib/path.h"

#define TUNNEL_TTL 64

/* Addresses the packet to `node`, once it goes out by the VXLAN device; false where there is no memory for that. */
static __always_inline bool set_tunnel(struct __sk_buff *skb, const struct ipv6_address *node, __u32 vni)
{
	struct bpf_tunnel_key key = { .tunnel_id = vni, .tunnel_ttl = TUNNEL_TTL };

	if (is_mapped_v4(node)) {
		key.remote_ipv4 = __builtin_bswap32(node->words[3]);
		/* Each packet within has a checksum of its own (RFC 7348, 4.1). */
		return !bpf_skb_set_tunnel_key(skb, &key, sizeof(key), BPF_F_ZERO_CSUM_TX);
	}
	__builtin_memcpy(key.remote_ipv6, node, sizeof(*node));
	return !bpf_skb_set_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6);
}

/* Whether what came out of the VXLAN device was in our tunnel. */
static __always_inline bool is_of_tunnel(struct __sk_buff *skb, __u32 vni)
{
	struct bpf_tunnel_key key = {};

	/* The family of the underlay is in its own words; a packet that has neither came from no wire. */
	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0) &&
	    bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6))
		return true;
	return key.tunnel_id == vni;
}
