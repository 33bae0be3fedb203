/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Ports for fragments that carry none: what the first one of their datagram said. */
#pragma once

#include "bpf/abi/conntrack.h"
#include "bpf/lib/clock.h"
#include "bpf/lib/parse.h"

#define MAX_FRAGMENTED 8192

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FRAGMENTED);
	__type(key, struct frag_key_v4);
	__type(value, struct frag);
} frags4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FRAGMENTED);
	__type(key, struct frag_key_v6);
	__type(value, struct frag);
} frags6 SEC(".maps");

static __always_inline enum drop_reason resolve_in(void *map, const void *key, struct packet *packet)
{
	const __u32 now = jiffies32();
	const struct frag *known;

	if (packet->fragment == FRAGMENT_FIRST) {
		const struct frag frag = { packet->source_port, packet->destination_port, now };

		return bpf_map_update_elem(map, key, &frag, BPF_ANY) ? DROP_FRAGMENT : DROP_NONE;
	}
	known = bpf_map_lookup_elem(map, key);
	if (!known || now - known->seen > FRAG_SECONDS * jiffies_per_second())
		return DROP_FRAGMENT;
	packet->source_port = known->source_port;
	packet->destination_port = known->destination_port;
	return DROP_NONE;
}

/* Remembers the ports of a first fragment, or gives a later one those of its first. Verified for themselves: rare. */
__noinline int resolve_fragment_v4(struct packet *packet)
{
	if (!packet)
		return DROP_FRAGMENT;

	const struct frag_key_v4 key = { packet->source.words[3], packet->destination.words[3], packet->fragment_id,
					 packet->protocol, 0 };

	return resolve_in(&frags4, &key, packet);
}

__noinline int resolve_fragment_v6(struct packet *packet)
{
	if (!packet)
		return DROP_FRAGMENT;

	const struct frag_key_v6 key = {
		packet->source, packet->destination, packet->fragment_id, packet->protocol, {}
	};

	return resolve_in(&frags6, &key, packet);
}

static __always_inline enum drop_reason resolve_fragment(struct packet *packet, bool is_v4)
{
	if (packet->fragment == FRAGMENT_NONE)
		return DROP_NONE;
	if (packet->kind == KIND_ERROR)
		return DROP_ICMP_ERROR;
	return is_v4 ? resolve_fragment_v4(packet) : resolve_fragment_v6(packet);
}
