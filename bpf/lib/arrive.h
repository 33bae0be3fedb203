/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What comes from other nodes and from the world: for a pod here, or for an address of the node that stands for one.
 * Everything else is the stack's, and left as it is.
 */
#pragma once

#include "bpf/lib/drop.h"
#include "bpf/lib/receive.h"
#include "bpf/lib/reject.h"

/* What becomes of a packet that came: nothing (the stack's) unless `ours`. */
struct arrival {
	bool ours;
	bool answers; /* to who sent it, by the device that it came by */
};

/* To the local pod that it is for, now; `at`: what is remembered of it. The stack's where that is none. */
static __always_inline enum drop_reason hand_in(struct __sk_buff *skb, struct scratch *scratch, __u16 *at,
						struct arrival *arrival, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	struct flow *flow = &scratch->flow;
	const struct endpoint *to =
		endpoint_by_address(flow->translated ? &flow->to.destination : &packet->destination, at, is_v4);
	enum drop_reason reason = DROP_NONE;

	if (!to || hops_left(skb, is_v4) <= 1)
		return DROP_NONE;
	arrival->ours = true;
	if (flow->translated)
		reason = translate(skb, packet, &flow->to, is_v4);
	if (!reason)
		reason = to_pod(packet, flow, to, false, is_v4);
	return reason ? reason : hand_over(skb, to, &scratch->route, is_v4);
}

static __always_inline enum drop_reason refuse(struct __sk_buff *skb, struct scratch *scratch, struct arrival *arrival,
					       enum drop_reason reason, bool is_v4)
{
	arrival->ours = true;
	scratch->route.back = arrival->answers && scratch->flow.answer && reject(skb, &scratch->packet, is_v4);
	return reason;
}

/* Whether the node's routes say that the packet is for the node itself. With a stack of its own: the callers' is full.
 */
__noinline int is_for_node(struct __sk_buff *skb, const struct packet *packet, __u32 is_v4)
{
	struct bpf_fib_lookup fib = { .family = is_v4 ? AF_INET : AF_INET6, .ifindex = skb->ifindex };

	if (!packet)
		return 0;
	if (is_v4) {
		fib.ipv4_src = packet->source.words[3];
		fib.ipv4_dst = packet->destination.words[3];
	} else {
		__builtin_memcpy(fib.ipv6_src, &packet->source, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &packet->destination, sizeof(fib.ipv6_dst));
	}
	return bpf_fib_lookup(skb, &fib, sizeof(fib), 0) == BPF_FIB_LKUP_RET_NOT_FWDED;
}

/* A connection to a port of the node that is passed on to a pod here. */
static __always_inline enum drop_reason begin_from_afar(struct __sk_buff *skb, struct scratch *scratch,
							struct arrival *arrival, bool is_v4)
{
	const struct packet *packet = &scratch->packet;
	struct flow *flow = &scratch->flow;
	__u16 *hint = &scratch->route.hint;
	enum drop_reason reason = DROP_NONE;
	const struct endpoint *to;

	if (packet->fragment == FRAGMENT_LATER || !is_for_node(skb, packet, is_v4))
		return DROP_NONE;
	for (int i = 0; i < 2; i++) {
		leave_as_it_is(packet, flow);
		reason = decide_service(packet, flow, is_v4);
		if (reason)
			return refuse(skb, scratch, arrival, reason, is_v4);
		*hint = RECEIVER_UNKNOWN;
		to = endpoint_by_address(&flow->to.destination, hint, is_v4);
		if (!to)
			return DROP_NONE;
		reason = judge_new(packet, flow, NULL, to, is_v4);
		if (!reason)
			reason = begin_connection(packet, flow, is_v4);
		if (reason != DROP_TUPLE_TAKEN)
			break;
	}
	if (reason) {
		arrival->ours = true;
		return reason;
	}
	return flow->form == FORM_NONE ? DROP_NONE : hand_in(skb, scratch, hint, arrival, is_v4);
}

/* A packet to a frontend, or to what a masqueraded connection may have as its source. */
static __always_inline enum drop_reason track_to_node(struct __sk_buff *skb, struct scratch *scratch,
						      struct arrival *arrival, bool is_v4)
{
	const struct path_config *config = current_paths();
	struct packet *packet = &scratch->packet;
	struct flow *flow = &scratch->flow;
	const struct socket_peer named = { packet->destination, packet->destination_port, 0 };
	const bool served = has_ports(packet->protocol) && service_at(&named, packet->protocol, is_v4);
	enum drop_reason reason;
	struct ct_head *head;

	if (!served) {
		if (!config || !is_masquerade_address(config, &packet->destination, is_v4))
			return DROP_NONE;
		if ((has_ports(packet->protocol) || is_icmp(packet->protocol, is_v4)) &&
		    !is_masquerade_port(config, bpf_ntohs(packet->destination_port)))
			return DROP_NONE;
	}
	/* Those of the node's own are not remembered. */
	if (packet->fragment == FRAGMENT_FIRST && resolve_fragment(packet, is_v4))
		return DROP_NONE;
	reason = track(packet, flow, NULL, false, is_v4);
	if (reason)
		return refuse(skb, scratch, arrival, reason, is_v4);
	if (flow->form != FORM_ORIGINAL && flow->form != FORM_REPLY)
		return served ? begin_from_afar(skb, scratch, arrival, is_v4) : DROP_NONE;
	head = flow->translated ? ct_slot(flow->index, is_v4) : NULL;
	return head ? hand_in(skb, scratch, &head->endpoints[flow->form == FORM_REPLY], arrival, is_v4) : DROP_NONE;
}

/* An error about what left under an address of the node. */
static __always_inline enum drop_reason relate_to_node(struct __sk_buff *skb, struct scratch *scratch,
						       struct arrival *arrival, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	const struct ipv6_address named = packet->destination;
	enum drop_reason reason;

	if (packet->fragment != FRAGMENT_NONE)
		return DROP_NONE;
	reason = relate_error(skb, packet, &scratch->error, is_v4);
	if (reason == DROP_TRANSLATION)
		arrival->ours = true;
	if (reason || same_end(&named, &packet->destination, is_v4))
		return arrival->ours ? reason : DROP_NONE;
	return hand_in(skb, scratch, &scratch->route.hint, arrival, is_v4);
}

static __always_inline int arrive_at_node(struct __sk_buff *skb, struct scratch *scratch, struct arrival *arrival,
					  bool is_v4)
{
	struct packet *packet = &scratch->packet;

	if (parse_transport(skb, packet, is_v4, false))
		return DROP_NONE;
	if (packet->fragment == FRAGMENT_LATER && resolve_fragment(packet, is_v4))
		return DROP_NONE;
	if (packet->kind == KIND_ERROR)
		return relate_to_node(skb, scratch, arrival, is_v4);
	return packet->kind == KIND_TRACKED ? track_to_node(skb, scratch, arrival, is_v4) : DROP_NONE;
}

static __always_inline enum drop_reason arrive(struct __sk_buff *skb, struct scratch *scratch, struct arrival *arrival,
					       bool is_v4)
{
	const struct packet *packet = &scratch->packet;
	const struct endpoint *to;
	enum drop_reason reason;

	/* The stack knows best what is wrong with a packet that may be its own. */
	if (parse_network(skb, sizeof(struct ethhdr), &scratch->packet, is_v4) ||
	    (is_v4 ? !is_beyond_link_v4(&packet->destination)
		   : !is_beyond_link_v6(&packet->destination) || is_link_local_v6(&packet->source)))
		return DROP_NONE;
	to = endpoint_by_address(&packet->destination, &scratch->route.hint, is_v4);
	if (!to)
		return arrive_at_node(skb, scratch, arrival, is_v4);
	/* The stack answers to the last hop. */
	if (hops_left(skb, is_v4) <= 1)
		return DROP_NONE;
	arrival->ours = true;
	reason = receive(skb, scratch, to, false, is_v4);
	return reason ? reason : hand_over(skb, to, &scratch->route, is_v4);
}

/* The answer of a program at a device's ingress. What is the stack's is that of other programs there, too. */
static __always_inline int arrive_by(struct __sk_buff *skb, bool answers)
{
	struct scratch *scratch = clean_scratch();
	struct arrival arrival = { .answers = answers };
	enum drop_reason reason;
	int verdict;

	if (!scratch)
		return TC_ACT_SHOT;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		reason = arrive(skb, scratch, &arrival, true);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		reason = arrive(skb, scratch, &arrival, false);
	else
		return TC_ACT_UNSPEC;
	if (!arrival.ours)
		return TC_ACT_UNSPEC;
	verdict = count_verdict(skb, &scratch->packet, reason, true);
	if (scratch->route.back) {
		set_mark(skb, MARK_JUDGED);
		return bpf_redirect(skb->ifindex, 0);
	}
	return verdict == TC_ACT_OK ? follow_route(skb, &scratch->route, TC_ACT_UNSPEC) : verdict;
}
