/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A packet and its connection: found or begun, moved, and what becomes of the packet by it. */
#pragma once

#include "bpf/lib/admit.h"

/* By the connection that the packet was found to be of (form 1 or 2). */
static __always_inline enum drop_reason follow(const struct connection *of, const struct packet *packet,
					       struct flow *flow, bool is_v4)
{
	flow->index = of->index;
	flow->tag = of->tag;
	flow->form = of->form;
	if (!advance(of, packet))
		return DROP_CT_RACE;
	flow->translated = of->head->flags & CT_TRANSLATED;
	if (!flow->translated)
		return DROP_NONE;
	if (of->form == FORM_ORIGINAL)
		to_server(of->head, &flow->to, is_v4);
	else
		to_client(of->head, &flow->to, is_v4);
	/* Had the slot been given away while it was read, another's ends would be in there. */
	return READ_ONCE(of->head->tag) >> CT_LIFE_BITS == of->tag >> CT_LIFE_BITS ? DROP_NONE : DROP_CT_RACE;
}

/* Begins the connection of a packet that leaves as flow->to says, if it is one to begin one. */
static __always_inline enum drop_reason begin(const struct packet *packet, struct flow *flow, bool is_v4)
{
	struct connection of = { .hash = flow->hash };
	int result;

	if (packet->signal == SIGNAL_ANSWER)
		return DROP_NO_CONNECTION;
	if (packet->signal == SIGNAL_ABORT)
		return DROP_NONE;
	result = insert_connection(&of, packet, &flow->to, &flow->by, &flow->admission, flow->translated, is_v4);
	if (result == -ENOSPC)
		return DROP_CT_FULL;
	if (!result) {
		flow->index = of.index;
		flow->tag = of.tag;
		flow->form = FORM_ORIGINAL;
		return DROP_NONE;
	}
	/* Another processor may have been first with the same one. */
	find_connection(&of, packet, false, is_v4);
	return of.form == FORM_ORIGINAL || of.form == FORM_REPLY ? follow(&of, packet, flow, is_v4) : DROP_TUPLE_TAKEN;
}

__noinline int begin_v4(const struct packet *packet, struct flow *flow)
{
	return packet && flow ? begin(packet, flow, true) : DROP_MALFORMED;
}

__noinline int begin_v6(const struct packet *packet, struct flow *flow)
{
	return packet && flow ? begin(packet, flow, false) : DROP_MALFORMED;
}

/* Begins the connection of a packet that is not translated, or as far as that has been decided. Both its ends have been
 * asked. */
static __always_inline enum drop_reason begin_connection(const struct packet *packet, struct flow *flow, bool is_v4)
{
	return is_v4 ? begin_v4(packet, flow) : begin_v6(packet, flow);
}

/* That the packet leaves as it came, if nobody decides otherwise. */
static __always_inline void leave_as_it_is(const struct packet *packet, struct flow *flow)
{
	flow->form = FORM_NONE;
	flow->translated = false;
	flow->by.service = 0;
	flow->to.source = packet->source;
	flow->to.destination = packet->destination;
	flow->to.source_port = packet->source_port;
	flow->to.destination_port = packet->destination_port;
}

/* A Service's part, where the packet is for one. */
static __always_inline enum drop_reason decide_service(const struct packet *packet, struct flow *flow, bool is_v4)
{
	const enum drop_reason reason = is_v4 ? decide_v4(packet, flow) : decide_v6(packet, flow);

	if (!reason)
		flow->answer = false;
	return reason;
}

/* What a connection whose backend is gone does with a packet on its way there. The connection ends. */
static __always_inline enum drop_reason lose_backend(const struct connection *of, const struct packet *packet,
						     struct flow *flow, bool is_v4)
{
	if (!end_connection(of->index, of->tag, is_v4))
		return DROP_CT_RACE;
	if (packet->fragment == FRAGMENT_LATER)
		return DROP_FRAGMENT;
	if (!has_start(packet->protocol) || packet->signal == SIGNAL_START)
		return DROP_NONE;
	flow->answer = packet->signal != SIGNAL_ABORT;
	return DROP_BACKEND_GONE;
}

/* Whether it makes its connection one that ends soon; a SYN that begins anew ends it at once. */
static __always_inline bool is_ending(const struct packet *packet)
{
	return packet->fragment != FRAGMENT_LATER &&
	       (packet->signal == SIGNAL_ABORT || packet->signal == SIGNAL_FIN || packet->signal == SIGNAL_SHUTDOWN);
}

/*
 * Finds the packet's connection and follows it. DROP_NONE with form FORM_NONE or FORM_FOREIGN: there is none (any
 * more), the caller decides whether to begin one; forms 3 and 4: the packet was translated before. `flow` is zero.
 * `sender`: the pod that sent it, which must allow the connection still before that moves; NULL: it is from elsewhere,
 * and where `from_node`, from the node itself.
 */
static __always_inline enum drop_reason track(const struct packet *packet, struct flow *flow,
					      const struct endpoint *sender, bool from_node, bool is_v4)
{
	struct connection of = {};
	enum drop_reason reason;
	bool anew;

	find_connection(&of, packet, false, is_v4);
	flow->hash = of.hash;
	if (of.form == FORM_BUSY)
		return DROP_CT_RACE;
	if (of.form != FORM_ORIGINAL && of.form != FORM_REPLY) {
		flow->form = of.form;
		flow->index = of.index;
		flow->tag = of.tag;
		return DROP_NONE;
	}
	anew = packet->signal == SIGNAL_START &&
	       begins_anew(packet, READ_ONCE(of.head->state), of.form == FORM_REPLY, of.head->flags & CT_TRANSLATED);
	if ((anew || is_ending(packet)) && !from_node && !(of.head->flags & CT_FROM_NODE)) {
		reason = is_v4 ? judge_end_v4(packet, (void *)of.head, of.tag, of.form == FORM_REPLY)
			       : judge_end_v6(packet, (void *)of.head, of.tag, of.form == FORM_REPLY);
		if (reason)
			return reason;
	}
	if (anew)
		return end_connection(of.index, of.tag, is_v4) ? DROP_NONE : DROP_CT_RACE;
	if (of.form == FORM_ORIGINAL && of.head->service &&
	    is_backend_gone(of.head, packet->protocol == IPPROTO_UDP, is_v4))
		return lose_backend(&of, packet, flow, is_v4);
	reason = sender ? judge_sender(packet, sender, &of, is_v4) : DROP_NONE;
	if (reason)
		return reason;
	return follow(&of, packet, flow, is_v4);
}
