/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Masquerade: what a pod says to the world, it says under an address of the node, from a port that no other connection
 * to the same remote end has. The key that replies are found by is the list of ports in use: what is not in it is free.
 */
#pragma once

#include "bpf/lib/route.h"
#include "bpf/lib/track.h"

/* Ports tried at random, after the one that the pod chose. */
#define MASQUERADE_TRIES 32

/* Whether replies to what leaves as `to` would be this connection's alone. */
static __always_inline bool is_tuple_free(const struct rewrite *to, __u8 protocol, bool is_v4)
{
	const __u64 hash =
		ct_hash(&to->source, to->source_port, &to->destination, to->destination_port, protocol, is_v4);
	struct connection other;
	__u32 set = 0;
	const __u64 held = find_key(hash, &set, is_v4);

	return !held || makes_room(held, set, &other, is_v4);
}

/* Makes a packet that leaves the cluster leave under the node's address. */
static __always_inline int masquerade(const struct packet *packet, struct flow *flow, bool is_v4)
{
	const struct path_config *config = current_paths();
	const bool is_query = is_icmp(packet->protocol, is_v4);
	__u16 port = bpf_ntohs(packet->source_port);
	__u32 ports;

	if (!config || !is_masqueraded(config, is_v4))
		return DROP_NONE;
	flow->translated = true;
	if (is_v4)
		flow->to.source.words[3] = config->masquerade_v4;
	else
		flow->to.source = config->masquerade_v6;
	if (!is_query && !has_ports(packet->protocol))
		return DROP_NONE;
	ports = config->last_port - config->first_port + 1;
	if (!is_masquerade_port(config, port))
		port = config->first_port + bpf_get_prandom_u32() % ports;
	for (int i = 0; i <= MASQUERADE_TRIES; i++) {
		flow->to.source_port = bpf_htons(port);
		if (is_query)
			flow->to.destination_port = flow->to.source_port;
		if (is_tuple_free(&flow->to, packet->protocol, is_v4))
			return DROP_NONE;
		port = config->first_port + bpf_get_prandom_u32() % ports;
	}
	return DROP_NO_PORT;
}

/* Functions of their own to the verifier, which looks at each once. */
__noinline int masquerade_v4(const struct packet *packet, struct flow *flow)
{
	return packet && flow ? masquerade(packet, flow, true) : DROP_MALFORMED;
}

__noinline int masquerade_v6(const struct packet *packet, struct flow *flow)
{
	return packet && flow ? masquerade(packet, flow, false) : DROP_MALFORMED;
}
