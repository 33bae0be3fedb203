/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Where a packet goes on. */
#pragma once

#include "bpf/lib/packet.h"
#include "bpf/lib/to_pod.h"

struct route {
	__u32 pod; /* ifindex of the host-side device of a local pod; 0: the host stack */
	bool back; /* dropped, and turned into an answer to its sender */
};

static __always_inline void spend_hop(struct __sk_buff *skb, bool is_v4)
{
	if (is_v4) {
		struct iphdr *ip = ipv4_of(skb);

		if (ip)
			spend_hop_v4(ip);
	} else {
		struct ipv6hdr *ip6 = ipv6_of(skb);

		if (ip6)
			ip6->hop_limit--;
	}
}

static __always_inline __u8 hops_left(struct __sk_buff *skb, bool is_v4)
{
	if (is_v4) {
		const struct iphdr *ip = ipv4_of(skb);

		return ip ? ip->ttl : 0;
	}
	const struct ipv6hdr *ip6 = ipv6_of(skb);

	return ip6 ? ip6->hop_limit : 0;
}

/* To a local pod, judged as it receives it and made the frame that its veth would have sent; else to the stack. The
 * last hop dies in the stack, which answers. */
static __always_inline enum drop_reason deliver(struct __sk_buff *skb, const struct packet *packet, __u16 *receiver,
						struct route *route, bool is_v4)
{
	const struct endpoint *to = endpoint_by_address(&packet->destination, receiver, is_v4);
	enum drop_reason reason;

	if (!to || hops_left(skb, is_v4) <= 1)
		return DROP_NONE;
	reason = to_pod(packet, to, is_v4);
	if (reason)
		return reason;
	spend_hop(skb, is_v4);
	if (bpf_skb_store_bytes(skb, 0, to->mac, sizeof(to->mac) + sizeof(to->host_mac), 0))
		return DROP_MALFORMED;
	route->pod = to->ifindex;
	return DROP_NONE;
}
