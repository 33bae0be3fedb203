/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Policy of a connection's two ends: asked before it begins, and remembered in its slot. An established packet costs a
 * comparison; where the pod's generation is another one by now, the connection is judged again as it began.
 */
#pragma once

#include "bpf/lib/balance.h"
#include "bpf/lib/drop.h"
#include "bpf/lib/policy.h"

static __always_inline enum drop_reason denied(const struct endpoint *ep, __u32 direction)
{
	remember_isolated(ep->ifindex);
	return direction == POLICY_EGRESS ? DROP_POLICY_EGRESS : DROP_POLICY_INGRESS;
}

static __always_inline bool asks_nobody(const struct endpoint *ep, __u32 direction)
{
	return !READ_ONCE(ep->rules[direction]);
}

/* Asks one end about its peer; *generation is that of the rules that allowed it. Read before them: see endpoint.h. */
static __always_inline enum drop_reason ask(const struct endpoint *ep, __u32 direction, const struct ipv6_address *peer,
					    __u32 protocol, __be16 port, __u32 *generation, bool is_v4)
{
	const __u32 before = READ_ONCE(ep->generation[direction]);
	const __u32 rules = READ_ONCE(ep->rules[direction]);

	if (!rules)
		return DROP_NONE;
	if (!(is_v4 ? judge_v4(rules, direction, peer, protocol, bpf_ntohs(port))
		    : judge_v6(rules, direction, peer, protocol, bpf_ntohs(port))))
		return denied(ep, direction);
	*generation = before;
	return DROP_NONE;
}

/* The connection that the packet would begin, leaving as flow->to says. NULL: that end is asked nothing. */
static __always_inline enum drop_reason judge_new(const struct packet *packet, struct flow *flow,
						  const struct endpoint *client, const struct endpoint *server,
						  bool is_v4)
{
	const struct rewrite *to = &flow->to;
	enum drop_reason reason = DROP_NONE;

	flow->admission.generation[POLICY_INGRESS] = 0;
	flow->admission.generation[POLICY_EGRESS] = 0;
	/* Asked for itself, not for what it was chosen by: 6.1's verifier does not know that one follows the other. */
	asm volatile("" : "+r"(server));
	/* Nobody is kept from himself. */
	if (same_end(&packet->source, &to->destination, is_v4))
		return DROP_NONE;
	if (client)
		reason = ask(client, POLICY_EGRESS, &to->destination, packet->protocol, to->destination_port,
			     &flow->admission.generation[POLICY_EGRESS], is_v4);
	if (!reason && server)
		reason = ask(server, POLICY_INGRESS, &to->source, packet->protocol, to->destination_port,
			     &flow->admission.generation[POLICY_INGRESS], is_v4);
	return reason;
}

/* What belongs to no connection is judged each time, as its protocol. */
static __always_inline enum drop_reason judge_alone(const struct packet *packet, const struct endpoint *ep,
						    __u32 direction, bool is_v4)
{
	__u32 generation;

	if (same_end(&packet->source, &packet->destination, is_v4))
		return DROP_NONE;
	return ask(ep, direction, direction == POLICY_EGRESS ? &packet->destination : &packet->source, packet->protocol,
		   0, &generation, is_v4);
}

/*
 * As judge_new(), of a connection that is there; `back`: of one that its server would begin with its client. Functions
 * of their own to the verifier, which looks at each once.
 */
__noinline int rejudge_v4(const struct ct_slot_v4 *slot, __u32 rules, __u32 direction, __u32 back)
{
	struct ipv6_address peer = {};

	if (!slot)
		return 0;
	if (slot->client == slot->to)
		return 1;
	if (direction == POLICY_EGRESS)
		peer.words[3] = back ? slot->client : slot->to;
	else
		peer.words[3] = back ? slot->to : slot->from;
	return judge_v4(rules, direction, &peer, slot->head.protocol,
			bpf_ntohs(back ? slot->client_port : slot->to_port));
}

__noinline int rejudge_v6(const struct ct_slot_v6 *slot, __u32 rules, __u32 direction, __u32 back)
{
	const struct ipv6_address *peer;

	if (!slot)
		return 0;
	if (same_v6(&slot->client, &slot->to))
		return 1;
	if (direction == POLICY_EGRESS)
		peer = back ? &slot->client : &slot->to;
	else
		peer = back ? &slot->to : &slot->from;
	return judge_v6(rules, direction, peer, slot->head.protocol,
			bpf_ntohs(back ? slot->client_port : slot->to_port));
}

/* By the slot that was found by `tag`: had it been given away while it was read, another's ends would be judged. */
static __always_inline enum drop_reason judge_slot(const struct endpoint *ep, struct ct_head *head, __u32 tag,
						   __u32 rules, __u32 direction, bool back, bool is_v4)
{
	if (!(is_v4 ? rejudge_v4((void *)head, rules, direction, back)
		    : rejudge_v6((void *)head, rules, direction, back)))
		return denied(ep, direction);
	return READ_ONCE(head->tag) >> CT_LIFE_BITS == tag >> CT_LIFE_BITS ? DROP_NONE : DROP_CT_RACE;
}

/* One end of the connection that was found in the slot by `tag`. */
static __always_inline enum drop_reason judge_known(const struct endpoint *ep, struct ct_head *head, __u32 tag,
						    __u32 direction, bool is_v4)
{
	const __u32 generation = READ_ONCE(ep->generation[direction]);
	const __u32 rules = READ_ONCE(ep->rules[direction]);
	__u32 *judged = &judged_of(head, is_v4)[direction];
	enum drop_reason reason;

	if (!rules || (generation && READ_ONCE(*judged) == CT_JUDGED(generation, tag)))
		return DROP_NONE;
	reason = judge_slot(ep, head, tag, rules, direction, false, is_v4);
	if (!reason)
		WRITE_ONCE(*judged, CT_JUDGED(generation, tag));
	return reason;
}

/* Whether a packet that goes the way of replies answers nothing, but begins something: SYN, INIT, an ICMP query. */
static __always_inline bool is_attempt(const struct packet *packet, bool is_v4)
{
	if (packet->fragment == FRAGMENT_LATER)
		return false;
	return packet->signal == SIGNAL_START ||
	       (packet->protocol == (is_v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) && packet->signal != SIGNAL_ANSWER);
}

/* It is asked about as a beginning, too, whatever connection lends it its ends. */
static __always_inline enum drop_reason judge_attempt(const struct endpoint *ep, const struct packet *packet,
						      struct ct_head *head, __u32 tag, __u32 direction, bool is_v4)
{
	const __u32 rules = is_attempt(packet, is_v4) ? READ_ONCE(ep->rules[direction]) : 0;

	return rules ? judge_slot(ep, head, tag, rules, direction, true, is_v4) : DROP_NONE;
}

/* The end that a packet of a known connection comes from. */
static __always_inline enum drop_reason judge_sender(const struct packet *packet, const struct endpoint *from,
						     const struct connection *of, bool is_v4)
{
	enum drop_reason reason;

	if (of->form == FORM_ORIGINAL)
		return judge_known(from, of->head, of->tag, POLICY_EGRESS, is_v4);
	if (of->head->flags & CT_FROM_NODE)
		return DROP_NONE;
	reason = judge_known(from, of->head, of->tag, POLICY_INGRESS, is_v4);
	return reason ? reason : judge_attempt(from, packet, of->head, of->tag, POLICY_EGRESS, is_v4);
}

/* The end that it goes to. */
static __always_inline enum drop_reason judge_receiver(const struct packet *packet, const struct flow *flow,
						       const struct endpoint *to, bool is_v4)
{
	const bool reply = flow->form == FORM_REPLY || flow->form == FORM_REPLY_DONE;
	enum drop_reason reason;
	struct ct_head *head;

	if (packet->kind == KIND_UNTRACKED)
		return judge_alone(packet, to, POLICY_INGRESS, is_v4);
	if (flow->form == FORM_NONE)
		return DROP_NONE; /* an error of a known connection; or it was asked about before */
	if (asks_nobody(to, reply ? POLICY_EGRESS : POLICY_INGRESS) &&
	    !(reply && is_attempt(packet, is_v4) && !asks_nobody(to, POLICY_INGRESS)))
		return DROP_NONE;
	head = ct_slot(flow->index, is_v4);
	if (!head)
		return DROP_CT_RACE;
	if (!reply)
		return judge_known(to, head, flow->tag, POLICY_INGRESS, is_v4);
	reason = judge_known(to, head, flow->tag, POLICY_EGRESS, is_v4);
	return reason ? reason : judge_attempt(to, packet, head, flow->tag, POLICY_INGRESS, is_v4);
}

/*
 * A packet that ends a connection, before it does: whether the pod that it is on its way to lets it in. Else who is
 * denied could have the connection forgotten, and the pod's own next packet would begin another one.
 */
static __always_inline enum drop_reason judge_end(const struct packet *packet, struct ct_head *head, __u32 tag,
						  bool reply, const struct ipv6_address *to, bool is_v4)
{
	__u16 hint = head->endpoints[reply];
	const struct endpoint *ep = endpoint_by_address(to, &hint, is_v4);
	enum drop_reason reason;

	if (!ep)
		return DROP_NONE;
	if (!reply)
		return judge_known(ep, head, tag, POLICY_INGRESS, is_v4);
	reason = judge_known(ep, head, tag, POLICY_EGRESS, is_v4);
	return reason ? reason : judge_attempt(ep, packet, head, tag, POLICY_INGRESS, is_v4);
}

__noinline int judge_end_v4(const struct packet *packet, struct ct_slot_v4 *slot, __u32 tag, __u32 reply)
{
	struct ipv6_address to = {};

	if (!packet || !slot)
		return DROP_NONE;
	to.words[3] = reply ? slot->client : slot->to;
	return judge_end(packet, &slot->head, tag, reply, &to, true);
}

__noinline int judge_end_v6(const struct packet *packet, struct ct_slot_v6 *slot, __u32 tag, __u32 reply)
{
	struct ipv6_address to; /* on the stack: 6.1 wants a key to be there, or in a map */

	if (!packet || !slot)
		return DROP_NONE;
	to = reply ? slot->client : slot->to;
	return judge_end(packet, &slot->head, tag, reply, &to, false);
}
