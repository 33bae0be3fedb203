/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a UDP socket that is not connected remembers of its translations, so that its owner sees the service's address:
 * in socket storage, which lives as long as the socket (never in an LRU). What cannot be remembered is not sent.
 */
#pragma once

#include "bpf/lib/service.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct socket_client);
} sk_clients SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct socket_slots);
} sk_udp SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct spill_key);
	__type(value, struct spill);
} sk_spill SEC(".maps");

/* Copies spilled translation `ordinal` of the socket; false where there is none. */
static __always_inline bool read_spill(__u64 cookie, __u32 ordinal, struct translation *out)
{
	const struct spill_key key = { .cookie = cookie, .ordinal = ordinal };
	const struct spill *spill = bpf_map_lookup_elem(&sk_spill, &key);

	if (!spill)
		return false;
	*out = spill->translation;
	return READ_ONCE(spill->cookie) == cookie; /* read last: the element may have been given away */
}

/* One walk over the spilled translations of a socket. */
struct spill_walk {
	__u64 cookie;
	struct socket_peer peer; /* looked for … */
	__u32 by_backend;        /* … among the backends, or 0: among services, with a valid backend */
	__u32 is_v4;
	__u32 found;
	__u32 free_ordinal; /* SOCKET_SPILL: none */
	struct translation result;
};

static __always_inline bool is_current(const struct translation *t, bool is_v4)
{
	const struct chosen chosen = { t->backend_index, t->generation };

	return is_valid(chosen, t->service_index, is_v4);
}

static long spill_step(__u32 ordinal, struct spill_walk *walk)
{
	struct translation seen;

	if (!read_spill(walk->cookie, ordinal, &seen)) {
		if (walk->free_ordinal == SOCKET_SPILL)
			walk->free_ordinal = ordinal;
		return 0;
	}
	if (!same_peer(walk->by_backend ? &seen.backend : &seen.service, &walk->peer))
		return 0;
	if (!walk->by_backend && !is_current(&seen, walk->is_v4))
		return 0;
	walk->result = seen;
	walk->found = 1;
	return 1;
}

/* Looks among the `spilled` translations for walk->peer. */
static __always_inline bool find_spilled(struct spill_walk *walk, __u32 spilled)
{
	walk->free_ordinal = SOCKET_SPILL;
	bpf_loop(spilled < SOCKET_SPILL ? spilled : SOCKET_SPILL, spill_step, walk, 0);
	return walk->found;
}

/* The first spilled translation whose backend is gone makes room for another. */
static long recycle_step(__u32 ordinal, struct spill_walk *walk)
{
	const struct spill_key key = { .cookie = walk->cookie, .ordinal = ordinal };
	struct translation seen;

	if (read_spill(walk->cookie, ordinal, &seen) && is_current(&seen, is_mapped_v4(&seen.backend.address)))
		return 0;
	bpf_map_delete_elem(&sk_spill, &key);
	walk->free_ordinal = ordinal;
	return 1;
}

/* Remembers `to` beyond the slots: 0 or -ENOBUFS. */
static __always_inline int spill(struct socket_slots *state, struct spill_walk *walk, const struct translation *to)
{
	struct spill_key key = { .cookie = walk->cookie };
	const struct spill value = { .cookie = walk->cookie, .translation = *to };

	if (walk->free_ordinal == SOCKET_SPILL && READ_ONCE(state->spilled) < SOCKET_SPILL)
		walk->free_ordinal = __sync_fetch_and_add(&state->spilled, 1);
	if (walk->free_ordinal >= SOCKET_SPILL) {
		walk->free_ordinal = SOCKET_SPILL;
		bpf_loop(SOCKET_SPILL, recycle_step, walk, 0);
	}
	if (walk->free_ordinal >= SOCKET_SPILL)
		return -ENOBUFS;
	key.ordinal = walk->free_ordinal;
	return bpf_map_update_elem(&sk_spill, &key, &value, BPF_NOEXIST) ? -ENOBUFS : 0;
}

static long free_step(__u32 ordinal, __u64 *cookie)
{
	const struct spill_key key = { .cookie = *cookie, .ordinal = ordinal };

	bpf_map_delete_elem(&sk_spill, &key);
	return 0;
}

/* Frees what the socket spilled. */
static __always_inline void free_spilled(__u64 cookie)
{
	bpf_loop(SOCKET_SPILL, free_step, &cookie, 0);
}

/* Fills the first free slot; false where there is none. A slot never changes once it is ready. */
static __always_inline bool fill_slot(struct socket_slots *state, const struct translation *to)
{
	for (int i = 0; i < SOCKET_SLOTS; i++) {
		struct translation *slot = &state->slots[i];

		if (__sync_val_compare_and_swap(&slot->state, TRANSLATION_NONE, TRANSLATION_FILLING) !=
		    TRANSLATION_NONE)
			continue;
		slot->service = to->service;
		slot->backend = to->backend;
		slot->service_index = to->service_index;
		slot->backend_index = to->backend_index;
		slot->generation = to->generation;
		__sync_lock_test_and_set(&slot->state, TRANSLATION_READY);
		return true;
	}
	return false;
}

/* The translation by which `peer` (a backend) is known to an unconnected socket: its service's address, into `peer`. */
static __always_inline bool reverse_unconnected(struct bpf_sock *sk, __u64 cookie, struct socket_peer *peer)
{
	struct socket_slots *state = bpf_sk_storage_get(&sk_udp, sk, 0, 0);
	struct spill_walk walk = { .cookie = cookie, .peer = *peer, .by_backend = 1 };

	if (!state)
		return false;
	for (int i = 0; i < SOCKET_SLOTS; i++) {
		const struct translation *slot = &state->slots[i];

		if (READ_ONCE(slot->state) == TRANSLATION_READY && same_peer(&slot->backend, peer)) {
			*peer = slot->service;
			return true;
		}
	}
	if (!READ_ONCE(state->spilled) || !find_spilled(&walk, state->spilled))
		return false;
	*peer = walk.result.service;
	return true;
}
