/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From a frontend to a backend. One source for both families: a peer is 16 bytes (IPv4 v4-mapped) and `is_v4` chooses
 * the maps; it is a constant where the hook knows its family. The agent sets the sizes before the load.
 */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/errno.h>

#include <bpf/bpf_helpers.h>

#include "bpf/abi/service.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct frontend_v4);
	__type(value, struct frontend);
} svc4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct frontend_v6);
	__type(value, struct frontend);
} svc6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct service);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct run_slot);
} runs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct backend_v4);
} backends4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct backend_v6);
} backends6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct affinity_v4);
	__type(value, struct affinity);
} affinity4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct affinity_v6);
	__type(value, struct affinity);
} affinity6 SEC(".maps");

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define MAPPED_PREFIX __builtin_bswap32(0xffff)

static __always_inline bool same_address(const struct ipv6_address *a, const struct ipv6_address *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1] && a->words[2] == b->words[2] &&
	       a->words[3] == b->words[3];
}

static __always_inline bool same_peer(const struct socket_peer *a, const struct socket_peer *b)
{
	return a->port == b->port && same_address(&a->address, &b->address);
}

static __always_inline bool is_mapped_v4(const struct ipv6_address *a)
{
	return a->words[0] == 0 && a->words[1] == 0 && a->words[2] == MAPPED_PREFIX;
}

static __always_inline struct ipv6_address mapped_v4(__be32 address)
{
	return (struct ipv6_address){ { 0, 0, MAPPED_PREFIX, address } };
}

/* One look at a frontend's service: 0, -ENOENT, or -EAGAIN where the value seen was another key's. */
static __always_inline int read_frontend(const struct socket_peer *peer, __u8 protocol, bool is_v4, __u32 *index)
{
	struct frontend_v4 key4 = { peer->address.words[3], peer->port, protocol, SCOPE_CLUSTER };
	struct frontend_v6 key6 = { peer->address, peer->port, protocol, SCOPE_CLUSTER };
	const struct frontend *found = is_v4 ? bpf_map_lookup_elem(&svc4, &key4) : bpf_map_lookup_elem(&svc6, &key6);
	struct frontend value;

	if (!found)
		return -ENOENT;
	value.service = READ_ONCE(found->service);
	value.check = READ_ONCE(found->check);
	*index = value.service;
	return value.check == (is_v4 ? frontend_check_v4(&key4) : frontend_check_v6(&key6)) ? 0 : -EAGAIN;
}

/* The index of the service at `peer`, or 0. */
static __always_inline __u32 service_at(const struct socket_peer *peer, __u8 protocol, bool is_v4)
{
	__u32 index = 0;
	int result = read_frontend(peer, protocol, is_v4, &index);

	if (result == -EAGAIN)
		result = read_frontend(peer, protocol, is_v4, &index);
	return result == 0 ? index : 0;
}

/* A backend, as a reader remembers it. */
struct chosen {
	__u32 index;
	__u32 generation;
};

/* Where backend `index` is and which generation it is of; false where there is no such element. */
static __always_inline bool read_backend(__u32 index, bool is_v4, struct socket_peer *peer, __u32 *generation)
{
	if (is_v4) {
		const struct backend_v4 *backend = bpf_map_lookup_elem(&backends4, &index);

		if (!backend)
			return false;
		*generation = READ_ONCE(backend->generation);
		peer->address = mapped_v4(backend->address);
		peer->port = backend->port;
	} else {
		const struct backend_v6 *backend = bpf_map_lookup_elem(&backends6, &index);

		if (!backend)
			return false;
		*generation = READ_ONCE(backend->generation);
		peer->address = backend->address;
		peer->port = backend->port;
	}
	return true;
}

/* Whether what was remembered is still a backend of `service`. The state is read first: the agent sets it last. */
static __always_inline bool is_valid(struct chosen chosen, __u32 service, bool is_v4)
{
	if (is_v4) {
		const struct backend_v4 *backend = bpf_map_lookup_elem(&backends4, &chosen.index);

		return backend && READ_ONCE(backend->state) == BACKEND_VALID &&
		       READ_ONCE(backend->generation) == chosen.generation && backend->service == service;
	}
	const struct backend_v6 *backend = bpf_map_lookup_elem(&backends6, &chosen.index);

	return backend && READ_ONCE(backend->state) == BACKEND_VALID &&
	       READ_ONCE(backend->generation) == chosen.generation && backend->service == service;
}

/* A random backend of the run that is published now: 0, -ECONNREFUSED, or -EAGAIN where the run was given away. */
static __always_inline int pick_from_run(const struct service *service, __u32 *backend)
{
	const __u64 run = READ_ONCE(service->run);
	const __u32 base = run, count = run >> 32;
	const struct run_slot *slot;
	__u32 at;

	if (count == 0)
		return -ECONNREFUSED;
	at = base + bpf_get_prandom_u32() % count;
	slot = bpf_map_lookup_elem(&runs, &at);
	if (!slot)
		return -EAGAIN;
	*backend = READ_ONCE(slot->backend);
	return READ_ONCE(slot->tag) == READ_ONCE(service->tag) ? 0 : -EAGAIN;
}

static __always_inline int pick_backend(const struct service *service, bool is_v4, struct translation *to)
{
	int result = pick_from_run(service, &to->backend_index);

	if (result == -EAGAIN)
		result = pick_from_run(service, &to->backend_index);
	if (result == 0 && !read_backend(to->backend_index, is_v4, &to->backend, &to->generation))
		result = -EAGAIN;
	return result;
}

/* The backend that `client` kept for the service within its timeout, if that is valid still. */
static __always_inline bool recall(const void *map, const void *key, __u64 timeout_ns, __u64 now, bool is_v4,
				   struct translation *to)
{
	const struct affinity *kept = bpf_map_lookup_elem((void *)map, key);
	struct chosen chosen;

	if (!kept || now - READ_ONCE(kept->seen_ns) >= timeout_ns)
		return false;
	chosen.index = READ_ONCE(kept->backend);
	chosen.generation = READ_ONCE(kept->generation);
	if (!is_valid(chosen, to->service_index, is_v4))
		return false;
	to->backend_index = chosen.index;
	return read_backend(chosen.index, is_v4, &to->backend, &to->generation);
}

/* A backend by ClientIP affinity. Of two first connections at once, one decides for both. */
static __always_inline int pick_affine(void *map, const void *key, const struct service *service, bool is_v4,
				       struct translation *to)
{
	const __u64 timeout_ns = READ_ONCE(service->affinity_timeout_s) * 1000000000ULL;
	const __u64 now = bpf_ktime_get_ns();
	struct affinity kept = { .seen_ns = now };
	int result;

	if (recall(map, key, timeout_ns, now, is_v4, to)) {
		kept.backend = to->backend_index;
		kept.generation = to->generation;
		bpf_map_update_elem(map, key, &kept, BPF_EXIST);
		return 0;
	}
	result = pick_backend(service, is_v4, to);
	if (result)
		return result;
	kept.backend = to->backend_index;
	kept.generation = to->generation;
	bpf_map_delete_elem(map, key);
	if (bpf_map_update_elem(map, key, &kept, BPF_NOEXIST) == -EEXIST)
		recall(map, key, timeout_ns, now, is_v4, to);
	return 0;
}

/* Chooses `to`'s backend for a new connection of `client` to service `to->service_index`: 0 or -errno. */
static __always_inline int choose_backend(const struct socket_client *client, bool is_v4, struct translation *to)
{
	const struct service *service = bpf_map_lookup_elem(&services, &to->service_index);

	if (!service)
		return -ECONNREFUSED;
	if (!READ_ONCE(service->affinity_timeout_s))
		return pick_backend(service, is_v4, to);
	if (is_v4) {
		const struct affinity_v4 key = { client->v4, to->service_index };

		return pick_affine(&affinity4, &key, service, is_v4, to);
	}
	const struct affinity_v6 key = { client->v6, to->service_index };

	return pick_affine(&affinity6, &key, service, is_v4, to);
}
