// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The pod's end of the network: both programs sit on the host-side device of a pod's veth pair (clsact). One program
 * set serves all pods; what differs is in the endpoint's record. A device without one passes nothing: fail closed.
 */
#include "bpf/lib/drop.h"
#include "bpf/lib/endpoint.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/to_pod.h"

/* Where from_pod sends a packet that it does not drop. */
struct route {
	__u32 pod; /* ifindex of the host-side device of a local pod; 0: the host stack */
};

/* Judges the packet as `to` receives it, and makes it the frame that its veth would have sent. */
static __always_inline enum drop_reason deliver(struct __sk_buff *skb, const struct endpoint *to, struct route *route)
{
	const enum drop_reason reason = to_pod(skb, to);

	if (reason != DROP_NONE)
		return reason;
	if (bpf_skb_store_bytes(skb, 0, to->mac, sizeof(to->mac) + sizeof(to->host_mac), 0))
		return DROP_MALFORMED;
	route->pod = to->ifindex;
	return DROP_NONE;
}

static __always_inline enum drop_reason from_pod_v4(struct __sk_buff *skb, const struct endpoint *from,
						    struct route *route)
{
	struct iphdr *ip = ipv4_of(skb);
	const struct endpoint *to;

	if (!ip)
		return DROP_MALFORMED;
	if (!from->v4 || ip->saddr != from->v4)
		return DROP_SOURCE_ADDRESS;
	/* A frame for another MAC is not the router's to forward: the stack discards it. The last hop dies in the
	 * stack, too, which answers with ICMP. */
	to = endpoint_by_v4(ip->daddr);
	if (!to || skb->pkt_type != 0 || ip->ttl <= 1)
		return DROP_NONE;
	spend_hop_v4(ip);
	return deliver(skb, to, route);
}

/* `::` is whoever has no address yet: duplicate address detection and multicast listener reports (RFC 4862, 3590). */
static __always_inline bool may_be_unspecified(const struct ipv6hdr *ip6)
{
	return is_multicast_v6((const void *)&ip6->daddr) &&
	       (ip6->nexthdr == IPPROTO_ICMPV6 || ip6->nexthdr == IPPROTO_HOPOPTS);
}

static __always_inline enum drop_reason from_pod_v6(struct __sk_buff *skb, const struct endpoint *from,
						    struct route *route)
{
	struct ipv6hdr *ip6 = ipv6_of(skb);
	const struct ipv6_address *source;
	const struct endpoint *to;

	if (!ip6)
		return DROP_MALFORMED;
	source = (const void *)&ip6->saddr;
	if (is_zero_v6(source))
		return may_be_unspecified(ip6) ? DROP_NONE : DROP_SOURCE_ADDRESS;
	/* Link-local stays on the link, whose other end is the stack. */
	if (same_v6(source, &from->link_local))
		return DROP_NONE;
	if (!same_v6(source, &from->v6))
		return DROP_SOURCE_ADDRESS;
	to = endpoint_by_v6((const void *)&ip6->daddr);
	if (!to || skb->pkt_type != 0 || ip6->hop_limit <= 1)
		return DROP_NONE;
	ip6->hop_limit--;
	return deliver(skb, to, route);
}

static __always_inline enum drop_reason from_pod_arp(struct __sk_buff *skb, const struct endpoint *from)
{
	const struct arp_ipv4 *arp = arp_of(skb);

	if (!arp)
		return DROP_MALFORMED;
	if (!same_mac(arp->sender_mac, from->mac))
		return DROP_SOURCE_MAC;
	return from->v4 && arp->sender == from->v4 ? DROP_NONE : DROP_SOURCE_ADDRESS;
}

static __always_inline enum drop_reason route_from_pod(struct __sk_buff *skb, struct route *route)
{
	const struct endpoint *from = endpoint_by_ifindex(skb->ifindex);
	const struct ethhdr *eth;

	if (!from)
		return DROP_NO_ENDPOINT;
	eth = frame_with(skb, 0);
	if (!eth)
		return DROP_MALFORMED;
	if (!same_mac(eth->h_source, from->mac))
		return DROP_SOURCE_MAC;
	if (skb->vlan_present)
		return DROP_PROTOCOL;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return from_pod_v4(skb, from, route);
	case bpf_htons(ETH_P_IPV6):
		return from_pod_v6(skb, from, route);
	case bpf_htons(ETH_P_ARP):
		return from_pod_arp(skb, from);
	default:
		return DROP_PROTOCOL;
	}
}

/* clsact ingress: what the pod sends. */
SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	struct route route = {};
	const int verdict = count_verdict(skb, route_from_pod(skb, &route));

	return verdict == TC_ACT_OK && route.pod ? bpf_redirect_peer(route.pod, 0) : verdict;
}

/* clsact egress: what the host stack sends to the pod. */
SEC("tc")
int host_to_pod(struct __sk_buff *skb)
{
	const struct endpoint *to = endpoint_by_ifindex(skb->ifindex);

	return count_verdict(skb, to ? to_pod(skb, to) : DROP_NO_ENDPOINT);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
