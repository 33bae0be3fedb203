/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which Service a packet is for, and where that sends it: docs/packet-path.md, Services. */
#pragma once

#include "bpf/lib/conntrack.h"
#include "bpf/lib/path.h"

/* Whether the protocol's connections begin with a packet of their own. */
static __always_inline bool has_start(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_SCTP;
}

/* What becomes of a packet by its connection; zero before. */
struct flow {
	struct rewrite to;
	struct chosen_service by;
	struct admission admission;
	__u32 index;     /* the connection's slot; without meaning where `form` is FORM_NONE … */
	__u32 tag;       /* … and its tag */
	__u64 hash;      /* of the packet's key */
	__u8 form;       /* enum ct_form; FORM_NONE: it has none, and needs none */
	__u8 translated; /* the packet becomes `to` */
	__u8 answer;     /* of a drop: the sender is to hear of it */
	__u8 pad;
};

/* Decides for a packet that would begin a connection: flow->to is what it is to be, flow->by the Service's part. */
static __always_inline enum drop_reason decide(const struct packet *packet, struct flow *flow, bool is_v4)
{
	struct translation choice = { .service = { .address = packet->destination, .port = packet->destination_port } };
	struct socket_client client = {};

	choice.service_index = service_at(&choice.service, packet->protocol, is_v4);
	if (!choice.service_index) {
		const struct path_config *paths = current_paths();

		flow->answer = true;
		if (paths && is_masquerade_address(paths, &packet->destination, is_v4))
			return DROP_NONE;
		return is_service_address(&choice.service, is_v4) ? DROP_NO_SERVICE_PORT : DROP_NONE;
	}
	flow->answer = packet->signal != SIGNAL_ABORT;
	if (has_start(packet->protocol) && packet->signal != SIGNAL_START)
		return DROP_NO_CONNECTION;
	if (is_v4)
		client.v4 = packet->source.words[3];
	else
		client.v6 = packet->source;
	if (choose_for_flow(&client, packet->source_port, is_v4, &choice))
		return DROP_NO_BACKEND;
	flow->to.destination = choice.backend.address;
	flow->to.destination_port = choice.backend.port;
	/* Hairpin: nobody takes packets from himself. */
	if (same_end(&flow->to.destination, &packet->source, is_v4))
		flow->to.source = packet->destination;
	flow->by.service = choice.service_index;
	flow->by.backend = choice.backend_index;
	flow->by.generation = choice.generation;
	flow->translated = true;
	return DROP_NONE;
}

/* Functions of their own to the verifier, which looks at each once. */
__noinline int decide_v4(const struct packet *packet, struct flow *flow)
{
	return packet && flow ? decide(packet, flow, true) : DROP_MALFORMED;
}

__noinline int decide_v6(const struct packet *packet, struct flow *flow)
{
	return packet && flow ? decide(packet, flow, false) : DROP_MALFORMED;
}
