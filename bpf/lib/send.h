/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a pod sends: who it may say that it is, its connection, and where that leads. */
#pragma once

#include "bpf/lib/reject.h"
#include "bpf/lib/route.h"
#include "bpf/lib/scope.h"
#include "bpf/lib/scratch.h"
#include "bpf/lib/track.h"

/* A tracked packet, up to its translation. */
static __always_inline enum drop_reason track_from_pod(struct __sk_buff *skb, struct scratch *scratch,
						       struct route *route, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	struct flow *flow = &scratch->flow;
	enum drop_reason reason = track(packet, flow, is_v4);

	if (!reason && flow->form != FORM_ORIGINAL && flow->form != FORM_REPLY)
		reason = begin_connection(packet, flow, true, is_v4);
	if (reason) {
		route->back = flow->answer && reject(skb, packet, is_v4);
		return reason;
	}
	return flow->translated ? translate(skb, packet, &flow->to, is_v4) : DROP_NONE;
}

/* What the pod sends under an address of its own to somewhere beyond the link. */
static __always_inline enum drop_reason send_from_pod(struct __sk_buff *skb, struct scratch *scratch,
						      struct route *route, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	struct flow *flow = &scratch->flow;
	__u16 unknown = RECEIVER_UNKNOWN;
	struct ct_head *head = NULL;
	enum drop_reason reason = parse_transport(skb, packet, is_v4, false);

	if (!reason)
		reason = resolve_fragment(packet, is_v4);
	if (!reason && packet->kind == KIND_ERROR)
		reason = relate_error(skb, packet, &scratch->error, is_v4);
	else if (!reason && packet->kind == KIND_TRACKED)
		reason = track_from_pod(skb, scratch, route, is_v4);
	if (reason)
		return reason;
	if (flow->form != FORM_NONE)
		head = ct_slot(flow->index, is_v4);
	return deliver(skb, packet, head ? &head->endpoints[flow->form == FORM_REPLY] : &unknown, route, is_v4);
}

/* A frame for another MAC is not the router's to forward: the stack discards it. */
static __always_inline bool is_for_us(const struct __sk_buff *skb)
{
	return skb->pkt_type == 0;
}

static __always_inline enum drop_reason from_pod_v4(struct __sk_buff *skb, struct scratch *scratch,
						    const struct endpoint *from, struct route *route)
{
	const struct packet *packet = &scratch->packet;
	const enum drop_reason reason = parse_network(skb, sizeof(struct ethhdr), &scratch->packet, true);

	if (reason)
		return reason;
	if (!from->v4 || packet->source.words[3] != from->v4)
		return DROP_SOURCE_ADDRESS;
	if (!is_for_us(skb) || !is_beyond_link_v4(&packet->destination))
		return DROP_NONE;
	return send_from_pod(skb, scratch, route, true);
}

/* `::` is whoever has no address yet: duplicate address detection and multicast listener reports (RFC 4862, 3590). */
static __always_inline bool may_be_unspecified(const struct ipv6hdr *ip6)
{
	return is_multicast_v6((const void *)&ip6->daddr) &&
	       (ip6->nexthdr == IPPROTO_ICMPV6 || ip6->nexthdr == IPPROTO_HOPOPTS);
}

static __always_inline enum drop_reason from_pod_v6(struct __sk_buff *skb, struct scratch *scratch,
						    const struct endpoint *from, struct route *route)
{
	const struct ipv6hdr *ip6 = ipv6_of(skb);
	const struct ipv6_address *source;
	enum drop_reason reason;

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
	if (!is_for_us(skb) || !is_beyond_link_v6((const void *)&ip6->daddr))
		return DROP_NONE;
	reason = parse_network(skb, sizeof(struct ethhdr), &scratch->packet, false);
	return reason ? reason : send_from_pod(skb, scratch, route, false);
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

static __always_inline enum drop_reason route_from_pod(struct __sk_buff *skb, struct scratch *scratch,
						       struct route *route)
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
		return from_pod_v4(skb, scratch, from, route);
	case bpf_htons(ETH_P_IPV6):
		return from_pod_v6(skb, scratch, from, route);
	case bpf_htons(ETH_P_ARP):
		return from_pod_arp(skb, from);
	default:
		return DROP_PROTOCOL;
	}
}
