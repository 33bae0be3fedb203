/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a pod sends: who it may say that it is, its connection, and where that leads. */
#pragma once

#include "bpf/lib/masquerade.h"
#include "bpf/lib/reject.h"
#include "bpf/lib/scope.h"
#include "bpf/lib/scratch.h"
#include "bpf/lib/track.h"

/*
 * A connection that a pod begins: with a Service's choice where it is for one, and masqueraded where it leaves the
 * cluster. Twice where its packets would look like another's: another backend, or port, may be free.
 */
static __always_inline enum drop_reason begin_from_pod(struct __sk_buff *skb, struct scratch *scratch,
						       const struct endpoint *from, bool is_v4)
{
	const struct packet *packet = &scratch->packet;
	struct route *route = &scratch->route;
	struct flow *flow = &scratch->flow;
	enum drop_reason reason = DROP_NONE;
	const struct endpoint *to;

	if (packet->fragment == FRAGMENT_LATER)
		return DROP_FRAGMENT;
	for (int i = 0; i < 2; i++) {
		leave_as_it_is(packet, flow);
		reason = decide_service(packet, flow, is_v4);
		if (reason)
			return reason;
		route->hint = RECEIVER_UNKNOWN;
		to = find_route(skb, packet, &flow->to.destination, route, is_v4);
		reason = judge_new(packet, flow, from, to, is_v4);
		if (reason)
			return reason;
		if (!to && route->outside)
			reason = is_v4 ? masquerade_v4(packet, flow) : masquerade_v6(packet, flow);
		if (reason)
			return reason;
		reason = begin_connection(packet, flow, is_v4);
		if (reason != DROP_TUPLE_TAKEN || !flow->translated)
			break;
	}
	return reason;
}

/* A tracked packet, up to its translation. */
static __always_inline enum drop_reason track_from_pod(struct __sk_buff *skb, struct scratch *scratch,
						       const struct endpoint *from, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	struct flow *flow = &scratch->flow;
	enum drop_reason reason = track(packet, flow, from, false, is_v4);

	if (!reason && flow->form != FORM_ORIGINAL && flow->form != FORM_REPLY)
		reason = begin_from_pod(skb, scratch, from, is_v4);
	if (reason)
		scratch->route.back = flow->answer && reject(skb, packet, is_v4);
	return reason;
}

/*
 * Whether the stack is to get the packet as the pod sent it: it takes none from outside with an address of the node's
 * own as source. It answers to that as well, and what it sends on, to_uplink translates.
 */
static __always_inline bool stays_for_stack(const struct packet *packet, const struct flow *flow, struct route *route,
					    bool is_v4)
{
	if (same_end(&packet->source, &flow->to.source, is_v4) || route->kind != ROUTE_STACK)
		return false;
	/* The stack would ask for another neighbour, on the way to what the pod named. */
	if (route->unresolved && !same_end(&packet->destination, &flow->to.destination, is_v4))
		route->kind = ROUTE_NEIGHBOUR;
	return route->kind == ROUTE_STACK;
}

/* Translates and sends on. The way is found first: it decides who translates. */
static __always_inline enum drop_reason route_and_translate(struct __sk_buff *skb, struct scratch *scratch, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	struct route *route = &scratch->route;
	struct flow *flow = &scratch->flow;
	struct ct_head *head = flow->form != FORM_NONE ? ct_slot(flow->index, is_v4) : NULL;
	__u16 *remembered = head ? &head->endpoints[flow->form == FORM_REPLY] : NULL;
	const struct ipv6_address *destination = flow->translated ? &flow->to.destination : &packet->destination;
	const struct endpoint *to = NULL;
	enum drop_reason reason;

	/* A new connection's has been looked for, unless another processor was first to begin it. */
	if (!same_end(&route->destination, destination, is_v4)) {
		route->known = false;
		route->hint = remembered ? *remembered : RECEIVER_UNKNOWN;
	}
	if (!route->known)
		to = find_route(skb, packet, destination, route, is_v4);
	if (remembered && *remembered != route->hint)
		*remembered = route->hint;
	if (flow->translated) {
		if (!to && stays_for_stack(packet, flow, route, is_v4))
			return DROP_NONE;
		reason = translate(skb, packet, &flow->to, is_v4);
		if (reason)
			return reason;
	}
	if (to && hops_left(skb, is_v4) > 1) {
		reason = to_pod(packet, flow, to, false, is_v4);
		return reason ? reason : hand_over(skb, to, route, is_v4);
	}
	if (route->kind != ROUTE_STACK)
		spend_hop(skb, is_v4);
	if (route->kind == ROUTE_TUNNEL && !set_tunnel(skb, &route->node))
		return DROP_MALFORMED;
	return DROP_NONE;
}

/* What the pod sends under an address of its own to somewhere beyond the link. */
static __always_inline enum drop_reason send_from_pod(struct __sk_buff *skb, struct scratch *scratch,
						      const struct endpoint *from, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	enum drop_reason reason = parse_transport(skb, packet, is_v4, false);

	if (!reason)
		reason = resolve_fragment(packet, is_v4);
	if (!reason && packet->kind == KIND_ERROR)
		reason = relate_error(skb, packet, &scratch->error, is_v4);
	else if (!reason && packet->kind == KIND_TRACKED)
		reason = track_from_pod(skb, scratch, from, is_v4);
	else if (!reason)
		reason = judge_alone(packet, from, POLICY_EGRESS, is_v4);
	return reason ? reason : route_and_translate(skb, scratch, is_v4);
}

/* A frame for another MAC is not the router's to forward: the stack discards it. */
static __always_inline bool is_for_us(const struct __sk_buff *skb)
{
	return skb->pkt_type == PACKET_HOST;
}

static __always_inline enum drop_reason from_pod_v4(struct __sk_buff *skb, struct scratch *scratch,
						    const struct endpoint *from)
{
	const struct packet *packet = &scratch->packet;
	const enum drop_reason reason = parse_network(skb, sizeof(struct ethhdr), &scratch->packet, true);

	if (reason)
		return reason;
	if (!from->v4 || packet->source.words[3] != from->v4)
		return DROP_SOURCE_ADDRESS;
	if (!is_for_us(skb) || !is_beyond_link_v4(&packet->destination))
		return DROP_NONE;
	return send_from_pod(skb, scratch, from, true);
}

/* `::` is whoever has no address yet: duplicate address detection and multicast listener reports (RFC 4862, 3590). */
static __always_inline bool may_be_unspecified(const struct ipv6hdr *ip6)
{
	return is_multicast_v6((const void *)&ip6->daddr) &&
	       (ip6->nexthdr == IPPROTO_ICMPV6 || ip6->nexthdr == IPPROTO_HOPOPTS);
}

static __always_inline enum drop_reason from_pod_v6(struct __sk_buff *skb, struct scratch *scratch,
						    const struct endpoint *from)
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
	return reason ? reason : send_from_pod(skb, scratch, from, false);
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

static __always_inline enum drop_reason route_from_pod(struct __sk_buff *skb, struct scratch *scratch)
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
		return from_pod_v4(skb, scratch, from);
	case bpf_htons(ETH_P_IPV6):
		return from_pod_v6(skb, scratch, from);
	case bpf_htons(ETH_P_ARP):
		return from_pod_arp(skb, from);
	default:
		return DROP_PROTOCOL;
	}
}
