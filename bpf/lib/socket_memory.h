/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The memories of connected sockets (bpf/abi/socket_memory.h): found, taken and given back by the sockets' hooks, which
 * run one after another for one socket, under its lock. An array, and not socket storage or a hash: that costs a
 * connection a microsecond and more, this two cache lines that are mostly there already.
 */
#pragma once

#include "bpf/abi/socket_memory.h"
#include "bpf/lib/service.h"

/* Nobody keeps it mapped: the flag has its elements begin at a page, so each is one cache line. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct socket_memory);
} sk_memory SEC(".maps");

/* Its elements less one; they are a power of two. */
const volatile __u32 sk_memory_mask;

static __always_inline struct socket_memory *home_of(__u64 cookie)
{
	const __u32 at = cookie & sk_memory_mask;

	return bpf_map_lookup_elem(&sk_memory, &at);
}

/* A look at the places of a socket for the element that says `wanted`: its cookie, or 0 to take one that is free. */
struct place_walk {
	__u64 cookie;
	__u64 wanted;
	__u32 at;
	__u32 found;
};

/* Scattered: neighbours at home would fill each other's places, too. */
static long look_at_place(__u32 i, struct place_walk *walk)
{
	const __u32 place = hash_end(hash_word(hash_word(i, walk->cookie), walk->cookie >> 32)) & sk_memory_mask;
	struct socket_memory *memory = bpf_map_lookup_elem(&sk_memory, &place);

	if (!memory || READ_ONCE(memory->cookie) != walk->wanted)
		return 0;
	if (!walk->wanted && __sync_val_compare_and_swap(&memory->cookie, 0, walk->cookie))
		return 0;
	walk->at = place;
	walk->found = 1;
	return 1;
}

static __noinline struct socket_memory *away_from_home(__u64 cookie, __u64 wanted)
{
	struct place_walk walk = { .cookie = cookie, .wanted = wanted };

	bpf_loop(SOCKET_MEMORY_PLACES, look_at_place, &walk, 0);
	return walk.found ? bpf_map_lookup_elem(&sk_memory, &walk.at) : NULL;
}

/* What the socket remembers, or NULL. */
static __always_inline struct socket_memory *memory_of(struct socket_memory *home, __u64 cookie)
{
	if (READ_ONCE(home->cookie) == cookie)
		return home;
	return READ_ONCE(home->displaced) ? away_from_home(cookie, cookie) : NULL;
}

/* An element for a socket that has none; NULL where all of its places are taken. */
static __always_inline struct socket_memory *take_memory(struct socket_memory *home, __u64 cookie)
{
	struct socket_memory *memory;

	if (!READ_ONCE(home->cookie) && !__sync_val_compare_and_swap(&home->cookie, 0, cookie))
		return home;
	__sync_fetch_and_add(&home->displaced, 1); /* before it is to be found there */
	memory = away_from_home(cookie, 0);
	if (!memory || READ_ONCE(home->cookie) == cookie)
		__sync_fetch_and_add(&home->displaced, -1);
	return memory;
}

/*
 * Remembers the connection's translation, in place of an earlier connect's, and counts it as open: 0 or -ENOBUFS.
 * `netns`: the cookie of the socket's network namespace.
 */
static __always_inline int remember_connected(struct socket_memory *home, __u64 cookie, __u64 netns, __u32 protocol,
					      const struct translation *to, bool is_v4)
{
	struct socket_memory *memory = memory_of(home, cookie);

	if (memory) {
		__sync_lock_test_and_set(&memory->protocol, 0);
		connection_closed(memory->backend_index, memory->generation, is_mapped_v4(&memory->backend));
	} else {
		memory = take_memory(home, cookie);
	}
	if (!memory)
		return -ENOBUFS;
	memory->netns = netns;
	memory->service = to->service.address;
	memory->service_port = to->service.port;
	memory->backend = to->backend.address;
	memory->backend_port = to->backend.port;
	memory->backend_index = to->backend_index;
	memory->generation = to->generation;
	__sync_lock_test_and_set(&memory->protocol, protocol);
	connection_opened(to->backend_index, to->generation, is_v4);
	return 0;
}

/* Forgets what the socket was connected to, and counts it as closed. */
static __always_inline void forget_connected(struct socket_memory *home, __u64 cookie)
{
	struct socket_memory *memory = memory_of(home, cookie);
	__u32 backend, generation;
	bool displaced, is_v4;

	if (!memory)
		return;
	displaced = READ_ONCE(home->cookie) != cookie;
	backend = memory->backend_index;
	generation = memory->generation;
	is_v4 = is_mapped_v4(&memory->backend);
	__sync_lock_test_and_set(&memory->protocol, 0);
	if (__sync_val_compare_and_swap(&memory->cookie, cookie, 0) != cookie)
		return; /* the agent took it for lost just now, and does the rest */
	if (displaced)
		__sync_fetch_and_add(&home->displaced, -1);
	connection_closed(backend, generation, is_v4);
}

/* Shows `peer`, the socket's backend, as the service that it stands for; false: it is another's. */
static __always_inline bool reverse_connected(struct socket_memory *home, __u64 cookie, struct socket_peer *peer)
{
	const struct socket_memory *memory = memory_of(home, cookie);

	if (!memory || memory->backend_port != peer->port || !same_v6(&memory->backend, &peer->address))
		return false;
	peer->address = memory->service;
	peer->port = memory->service_port;
	return true;
}
