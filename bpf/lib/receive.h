/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What reaches a pod from elsewhere than another pod here: its connection, and what the pod makes of it. */
#pragma once

#include "bpf/lib/scope.h"
#include "bpf/lib/scratch.h"
#include "bpf/lib/to_pod.h"
#include "bpf/lib/track.h"

/* A tracked packet from elsewhere. What begins a connection is judged before, else after its translation. */
static __always_inline enum drop_reason track_to_pod(struct __sk_buff *skb, struct scratch *scratch,
						     const struct endpoint *to, bool from_node, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	struct flow *flow = &scratch->flow;
	enum drop_reason reason = track(packet, flow, NULL, from_node, is_v4);

	if (reason)
		return reason;
	if (flow->form == FORM_NONE || flow->form == FORM_FOREIGN) {
		if (!is_addressed(packet, to, is_v4))
			return DROP_DESTINATION;
		if (packet->fragment == FRAGMENT_LATER)
			return DROP_FRAGMENT;
		leave_as_it_is(packet, flow);
		if (from_node)
			flow->admission.flags = CT_FROM_NODE;
		else
			reason = judge_new(packet, flow, NULL, to, is_v4);
		return reason ? reason : begin_connection(packet, flow, is_v4);
	}
	if (flow->translated)
		reason = translate(skb, packet, &flow->to, is_v4);
	return reason ? reason : to_pod(packet, flow, to, from_node, is_v4);
}

/* What is for one pod, by its addresses or by its device; scratch->packet knows its IP header. */
static __always_inline enum drop_reason receive(struct __sk_buff *skb, struct scratch *scratch,
						const struct endpoint *to, bool from_node, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	const struct flow *flow = &scratch->flow;
	enum drop_reason reason;

	if (is_v4 ? !is_beyond_link_v4(&packet->destination)
		  : !is_beyond_link_v6(&packet->destination) || is_link_local_v6(&packet->source)) {
		packet->kind = KIND_UNTRACKED;
		return to_pod(packet, flow, to, from_node, is_v4);
	}
	reason = parse_transport(skb, packet, is_v4, false);
	if (!reason)
		reason = resolve_fragment(packet, is_v4);
	if (reason)
		return reason;
	if (packet->kind == KIND_TRACKED)
		return track_to_pod(skb, scratch, to, from_node, is_v4);
	if (packet->kind == KIND_ERROR)
		reason = relate_error(skb, packet, &scratch->error, is_v4);
	return reason ? reason : to_pod(packet, flow, to, from_node, is_v4);
}

static __always_inline enum drop_reason ip_to_pod(struct __sk_buff *skb, struct scratch *scratch,
						  const struct endpoint *to, bool from_node, bool is_v4)
{
	const enum drop_reason reason = parse_network(skb, sizeof(struct ethhdr), &scratch->packet, is_v4);

	return reason ? reason : receive(skb, scratch, to, from_node, is_v4);
}

static __always_inline enum drop_reason arp_to_pod(struct __sk_buff *skb, const struct endpoint *to)
{
	const struct arp_ipv4 *arp = arp_of(skb);

	if (!arp)
		return DROP_MALFORMED;
	return arp->target == to->v4 ? DROP_NONE : DROP_DESTINATION;
}

static __always_inline enum drop_reason judge_to_pod(struct __sk_buff *skb, struct scratch *scratch)
{
	const struct endpoint *to = endpoint_by_ifindex(skb->ifindex);
	const bool from_node = !skb->ingress_ifindex; /* made here, not forwarded */

	if (!to)
		return DROP_NO_ENDPOINT;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return ip_to_pod(skb, scratch, to, from_node, true);
	case bpf_htons(ETH_P_IPV6):
		return ip_to_pod(skb, scratch, to, from_node, false);
	case bpf_htons(ETH_P_ARP):
		return arp_to_pod(skb, to);
	default:
		return DROP_PROTOCOL;
	}
}
