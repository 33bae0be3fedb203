/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Policy of a connection's two ends: asked before it begins, and remembered in its slot. An established packet costs a
 * comparison; where the pod's generation is another one by now, the connection is judged again as it began.
 */
#pragma once

#include "bpf/lib/balance.h"
#include "bpf/lib/policy.h"

static __always_inline enum drop_reason denied(__u32 direction)
{
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
		return denied(direction);
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

	return ask(ep, direction, direction == POLICY_EGRESS ? &packet->destination : &packet->source, packet->protocol,
		   0, &generation, is_v4);
}

/* As judge_new(), of a connection that is there. Functions of their own to the verifier, which looks at each once. */
__noinline int rejudge_v4(const struct ct_slot_v4 *slot, __u32 rules, __u32 direction)
{
	struct ipv6_address peer = {};

	if (!slot)
		return 0;
	if (slot->client == slot->to)
		return 1;
	peer.words[3] = direction == POLICY_EGRESS ? slot->to : slot->from;
	return judge_v4(rules, direction, &peer, slot->head.protocol, bpf_ntohs(slot->to_port));
}

__noinline int rejudge_v6(const struct ct_slot_v6 *slot, __u32 rules, __u32 direction)
{
	if (!slot)
		return 0;
	if (same_v6(&slot->client, &slot->to))
		return 1;
	return judge_v6(rules, direction, direction == POLICY_EGRESS ? &slot->to : &slot->from, slot->head.protocol,
			bpf_ntohs(slot->to_port));
}

/* One end of the connection that was found in the slot by `tag`. */
static __always_inline enum drop_reason judge_known(const struct endpoint *ep, struct ct_head *head, __u32 tag,
						    __u32 direction, bool is_v4)
{
	const __u32 generation = READ_ONCE(ep->generation[direction]);
	const __u32 rules = READ_ONCE(ep->rules[direction]);
	__u32 *judged = &judged_of(head, is_v4)[direction];

	if (!rules || (generation && READ_ONCE(*judged) == CT_JUDGED(generation, tag)))
		return DROP_NONE;
	if (!(is_v4 ? rejudge_v4((void *)head, rules, direction) : rejudge_v6((void *)head, rules, direction)))
		return denied(direction);
	/* Had the slot been given away while it was read, another's ends would have been judged. */
	if (READ_ONCE(head->tag) >> CT_LIFE_BITS != tag >> CT_LIFE_BITS)
		return DROP_CT_RACE;
	WRITE_ONCE(*judged, CT_JUDGED(generation, tag));
	return DROP_NONE;
}

/* The end that a packet of a known connection comes from. */
static __always_inline enum drop_reason judge_sender(const struct endpoint *from, const struct connection *of,
						     bool is_v4)
{
	if (of->form == FORM_ORIGINAL)
		return judge_known(from, of->head, of->tag, POLICY_EGRESS, is_v4);
	if (of->head->flags & CT_FROM_NODE)
		return DROP_NONE;
	return judge_known(from, of->head, of->tag, POLICY_INGRESS, is_v4);
}

/* The end that it goes to. */
static __always_inline enum drop_reason judge_receiver(const struct packet *packet, const struct flow *flow,
						       const struct endpoint *to, bool is_v4)
{
	const bool reply = flow->form == FORM_REPLY || flow->form == FORM_REPLY_DONE;
	struct ct_head *head;

	if (packet->kind == KIND_UNTRACKED)
		return judge_alone(packet, to, POLICY_INGRESS, is_v4);
	if (flow->form == FORM_NONE)
		return DROP_NONE; /* an error of a known connection; or it was asked about before */
	if (asks_nobody(to, reply ? POLICY_EGRESS : POLICY_INGRESS))
		return DROP_NONE;
	head = ct_slot(flow->index, is_v4);
	if (!head)
		return DROP_CT_RACE;
	return reply ? judge_known(to, head, flow->tag, POLICY_EGRESS, is_v4)
		     : judge_known(to, head, flow->tag, POLICY_INGRESS, is_v4);
}
