/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the host stack sends to other nodes and to the world. A pod's packet that went there for want of a neighbour, or
 * for being too large, went as the pod sent it: its translation is made up for here.
 */
#pragma once

#include "bpf/lib/drop.h"
#include "bpf/lib/reject.h"
#include "bpf/lib/scope.h"
#include "bpf/lib/scratch.h"
#include "bpf/lib/track.h"

/* Translates as from_pod would have done; the connection moved there. scratch->packet knows the IP header. */
static __always_inline enum drop_reason finish(struct __sk_buff *skb, struct scratch *scratch, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	struct rewrite *to = &scratch->flow.to;
	enum drop_reason reason = parse_transport(skb, packet, is_v4, false);
	struct connection of = {};

	if (!reason && packet->kind == KIND_TRACKED)
		reason = resolve_fragment(packet, is_v4);
	if (reason || packet->kind != KIND_TRACKED)
		return reason;
	find_connection(&of, packet, false, is_v4);
	if (of.form == FORM_BUSY)
		return DROP_CT_RACE;
	if ((of.form != FORM_ORIGINAL && of.form != FORM_REPLY) || !(of.head->flags & CT_TRANSLATED))
		return DROP_NONE;
	if (of.form == FORM_ORIGINAL)
		to_server(of.head, to, is_v4);
	else
		to_client(of.head, to, is_v4);
	if (READ_ONCE(of.head->tag) >> CT_LIFE_BITS != of.tag >> CT_LIFE_BITS)
		return DROP_CT_RACE;
	return translate(skb, packet, to, is_v4);
}

/* A packet that a pod sent and the stack forwards; the node's own have no device that they came by. */
static __always_inline enum drop_reason depart(struct __sk_buff *skb, struct scratch *scratch, bool is_v4)
{
	if (!skb->ingress_ifindex || !endpoint_by_ifindex(skb->ingress_ifindex))
		return DROP_NONE;
	return finish(skb, scratch, is_v4);
}
