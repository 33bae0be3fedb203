/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Judging what is about to reach a pod, wherever it comes from. bpf_redirect_peer() skips the receiver's host-side
 * programs, so whoever redirects calls to_pod() first; what the host stack sends meets it at the host side's egress.
 * Either way a packet is judged exactly once.
 */
#pragma once

#include "bpf/abi/drop.h"
#include "bpf/lib/endpoint.h"
#include "bpf/lib/packet.h"

static __always_inline enum drop_reason to_pod_v4(struct __sk_buff *skb, const struct endpoint *to)
{
	const struct iphdr *ip = ipv4_of(skb);

	if (!ip)
		return DROP_MALFORMED;
	return ip->daddr == to->v4 ? DROP_NONE : DROP_DESTINATION;
}

static __always_inline enum drop_reason to_pod_v6(struct __sk_buff *skb, const struct endpoint *to)
{
	const struct ipv6hdr *ip6 = ipv6_of(skb);
	const struct ipv6_address *destination;

	if (!ip6)
		return DROP_MALFORMED;
	destination = (const void *)&ip6->daddr;
	return same_v6(destination, &to->v6) || same_v6(destination, &to->link_local) || is_multicast_v6(destination)
		       ? DROP_NONE
		       : DROP_DESTINATION;
}

static __always_inline enum drop_reason to_pod_arp(struct __sk_buff *skb, const struct endpoint *to)
{
	const struct arp_ipv4 *arp = arp_of(skb);

	if (!arp)
		return DROP_MALFORMED;
	return arp->target == to->v4 ? DROP_NONE : DROP_DESTINATION;
}

static __always_inline enum drop_reason to_pod(struct __sk_buff *skb, const struct endpoint *to)
{
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return to_pod_v4(skb, to);
	case bpf_htons(ETH_P_IPV6):
		return to_pod_v6(skb, to);
	case bpf_htons(ETH_P_ARP):
		return to_pod_arp(skb, to);
	default:
		return DROP_PROTOCOL;
	}
}
