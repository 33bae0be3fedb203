/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Where a packet goes on. */
#pragma once

#include "bpf/lib/packet.h"
#include "bpf/lib/to_pod.h"

/*
 * Mark of a packet that a program has judged and sent on to a device's egress, where another one would judge it again:
 * that one takes the mark off and lets it pass. No pod can set it: a packet loses its mark between network namespaces.
 */
#define MARK_JUDGED 0xfa1e1ead

struct route {
	__u32 pod;   /* ifindex of the host-side device of a local pod; 0: the host stack */
	bool shaped; /* to that device's egress */
	bool back;   /* dropped, and turned into an answer to its sender */
};

/* In assembly: a compiler may store through a pointer to the field, which the verifier refuses. */
static __always_inline void set_mark(struct __sk_buff *skb, __u32 mark)
{
	asm volatile("*(u32 *)(%0 + %1) = %2"
		     :
		     : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, mark)), "r"(mark)
		     : "memory");
}

static __always_inline bool was_judged(struct __sk_buff *skb)
{
	if (skb->mark != MARK_JUDGED)
		return false;
	set_mark(skb, 0);
	return true;
}

/* The program's answer for a packet that goes on as `route` says; `verdict` where that is to the host stack. */
static __always_inline int follow_route(struct __sk_buff *skb, const struct route *route, int verdict)
{
	if (!route->pod)
		return verdict;
	if (!route->shaped)
		return bpf_redirect_peer(route->pod, 0);
	set_mark(skb, MARK_JUDGED);
	return bpf_redirect(route->pod, 0);
}

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
	route->shaped = to->flags & EP_SHAPED;
	return DROP_NONE;
}
