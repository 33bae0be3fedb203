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
#include "bpf/lib/address.h"

/* Preallocated: an element is one cache line then, where one that is made when it is needed may begin within a line. */
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
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct backend_use);
} use4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct backend_use);
} use6 SEC(".maps");

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
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))

static __always_inline bool same_peer(const struct socket_peer *a, const struct socket_peer *b)
{
	return a->port == b->port && same_v6(&a->address, &b->address);
}

/* One look at a frontend's service: 0, -ENOENT, or -EAGAIN where the value seen was another key's. */
static __always_inline int read_frontend(const struct socket_peer *peer, __u8 protocol, __u8 scope, bool is_v4,
					 __u32 *index)
{
	struct frontend_v4 key4 = { peer->address.words[3], peer->port, protocol, scope };
	struct frontend_v6 key6 = { peer->address, peer->port, protocol, scope };
	const struct frontend *found = is_v4 ? bpf_map_lookup_elem(&svc4, &key4) : bpf_map_lookup_elem(&svc6, &key6);
	struct frontend value;

	if (!found)
		return -ENOENT;
	value.service = READ_ONCE(found->service);
	value.check = READ_ONCE(found->check);
	*index = value.service;
	return value.check == (is_v4 ? frontend_check_v4(&key4) : frontend_check_v6(&key6)) ? 0 : -EAGAIN;
}

/* Whether a service is at the address of `peer`, on any port. Called, for its keys' room on the caller's stack. */
static __noinline bool is_service_address(const struct socket_peer *peer, bool is_v4)
{
	const struct socket_peer any = { .address = peer->address };
	__u32 index;
	int result = read_frontend(&any, 0, SCOPE_CLUSTER, is_v4, &index);

	if (result == -EAGAIN)
		result = read_frontend(&any, 0, SCOPE_CLUSTER, is_v4, &index);
	return result == 0;
}

/* Elements of `services`. */
const volatile __u32 service_elements;

/* The index of the service of a scope at `peer` where it is at home, or 0: nobody's, or one elsewhere. */
static __always_inline __u32 service_at_home(const struct socket_peer *peer, __u8 protocol, __u8 scope)
{
	const __u32 at = service_at_word(peer->port, protocol, scope);
	const __u32 home = service_home(&peer->address, at, service_elements);
	const struct service *service = bpf_map_lookup_elem(&services, &home);

	return service && READ_ONCE(service->at) == at && same_v6(&service->address, &peer->address) ? home : 0;
}

/* The index of the service of a scope at `peer`, or 0. */
static __always_inline __u32 service_of(const struct socket_peer *peer, __u8 protocol, __u8 scope, bool is_v4)
{
	__u32 index = service_at_home(peer, protocol, scope);
	int result;

	if (index)
		return index;
	result = read_frontend(peer, protocol, scope, is_v4, &index);
	if (result == -EAGAIN)
		result = read_frontend(peer, protocol, scope, is_v4, &index);
	return result == 0 ? index : 0;
}

static __always_inline __u32 service_at(const struct socket_peer *peer, __u8 protocol, bool is_v4)
{
	return service_of(peer, protocol, SCOPE_CLUSTER, is_v4);
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

/* What has become of a backend that was remembered as `service`'s. The state is read first: the agent sets it last. */
static __always_inline __u32 backend_state(struct chosen chosen, __u32 service, bool is_v4)
{
	__u32 state;

	if (is_v4) {
		const struct backend_v4 *backend = bpf_map_lookup_elem(&backends4, &chosen.index);

		if (!backend)
			return BACKEND_GONE;
		state = READ_ONCE(backend->state);
		return READ_ONCE(backend->generation) == chosen.generation && backend->service == service
			       ? state
			       : BACKEND_GONE;
	}
	const struct backend_v6 *backend = bpf_map_lookup_elem(&backends6, &chosen.index);

	if (!backend)
		return BACKEND_GONE;
	state = READ_ONCE(backend->state);
	return READ_ONCE(backend->generation) == chosen.generation && backend->service == service ? state
												  : BACKEND_GONE;
}

/* Whether it may get new connections still. */
static __always_inline bool is_valid(struct chosen chosen, __u32 service, bool is_v4)
{
	return backend_state(chosen, service, is_v4) == BACKEND_VALID;
}

static __always_inline struct backend_use *use_of(__u32 backend, bool is_v4)
{
	return is_v4 ? bpf_map_lookup_elem(&use4, &backend) : bpf_map_lookup_elem(&use6, &backend);
}

/*
 * Notes a connection to a backend as opened, and as closed: each opened one is closed once, by who remembers it. What
 * is of an earlier use of the element is not counted, so a late close takes nothing from another backend.
 */
static __always_inline void connection_opened(__u32 backend, __u32 generation, bool is_v4)
{
	struct backend_use *use = use_of(backend, is_v4);

	if (use && READ_ONCE(use->generation) == generation)
		__sync_fetch_and_add(&use->open, 1);
}

static __always_inline void connection_closed(__u32 backend, __u32 generation, bool is_v4)
{
	struct backend_use *use = use_of(backend, is_v4);

	if (use && READ_ONCE(use->generation) == generation)
		__sync_fetch_and_add(&use->open, -1);
}

static __always_inline __u32 hash_word(__u32 hash, __u32 word)
{
	hash = (hash ^ word) * 0x9e3779b1;
	return hash ^ hash >> 15;
}

static __always_inline __u32 hash_address(__u32 hash, const struct ipv6_address *address)
{
	hash = hash_word(hash, address->words[0]);
	hash = hash_word(hash, address->words[1]);
	hash = hash_word(hash, address->words[2]);
	return hash_word(hash, address->words[3]);
}

/* Ends a hash; the same on every node, where the words are. */
static __always_inline __u32 hash_end(__u32 hash)
{
	hash = (hash ^ hash >> 16) * 0x85ebca6b;
	hash = (hash ^ hash >> 13) * 0xc2b2ae35;
	return hash ^ hash >> 16;
}

/* Who asks, and by which of its flows: a source port at packet hooks, the socket's cookie where there is none yet. */
struct chooser {
	const struct socket_client *client;
	__u32 flow;
	bool is_v4;
};

static __always_inline __u32 hash_choice(const struct chooser *by, __u32 algorithm, const struct socket_peer *service)
{
	__u32 hash = 0;

	if (algorithm != ALGORITHM_DESTINATION_HASH)
		hash = by->is_v4 ? hash_word(hash, by->client->v4) : hash_address(hash, &by->client->v6);
	if (algorithm != ALGORITHM_SOURCE_HASH)
		hash = hash_word(hash_address(hash, &service->address), service->port);
	if (algorithm == ALGORITHM_MAGLEV)
		hash = hash_word(hash, by->flow);
	return hash_end(hash);
}

/* The backend at place `at` of the service's run at `base`, or 0: the run was given away. */
static __always_inline __u32 backend_in_run(struct service *service, __u32 base, __u32 at)
{
	const __u32 place = base + at;
	const struct run_slot *slot;
	__u32 backend;

	if (base & SERVICE_OWN_RUN)
		return READ_ONCE(service->own_run[place % SERVICE_OWN_PLACES]);
	slot = bpf_map_lookup_elem(&runs, &place);
	if (!slot)
		return 0;
	backend = READ_ONCE(slot->backend);
	return READ_ONCE(slot->tag) == READ_ONCE(service->tag) ? backend : 0;
}

/* One look at a run for the backend with the fewest open connections by weight. */
struct least_walk {
	__u32 service;
	__u32 base, count;
	__u32 start; /* of the window, below `count` */
	__u32 is_v4;
	__u32 backend; /* the best so far; 0: the run was given away */
	__u32 weight;
	__u32 open;
};

/* So many backends are compared, from a random one on: larger runs are sampled. */
#define LEAST_WINDOW 32

static long least_step(__u32 i, struct least_walk *walk)
{
	struct service *service = bpf_map_lookup_elem(&services, &walk->service);
	const struct backend_use *use;
	__u32 backend, open, weight;

	if (!service)
		return 1;
	backend = backend_in_run(service, walk->base, (walk->start + i) % walk->count);
	use = use_of(backend, walk->is_v4);
	if (!backend || !use) {
		walk->backend = 0;
		return 1;
	}
	open = READ_ONCE(use->open);
	weight = READ_ONCE(use->weight);
	/* As full as the best would be with one more; compared crosswise. */
	if (walk->backend && ((__u64)open + 1) * walk->weight >= ((__u64)walk->open + 1) * weight)
		return 0;
	walk->backend = backend;
	walk->open = open;
	walk->weight = weight;
	return 0;
}

static __always_inline int pick_least(__u32 service, __u32 base, __u32 count, bool is_v4, __u32 *backend)
{
	struct least_walk walk = { .service = service, .base = base, .count = count, .is_v4 = is_v4 };

	walk.start = bpf_get_prandom_u32() % count;
	bpf_loop(count < LEAST_WINDOW ? count : LEAST_WINDOW, least_step, &walk, 0);
	*backend = walk.backend;
	return walk.backend ? 0 : -EAGAIN;
}

/* A backend of the run that is published now: 0, -ECONNREFUSED, or -EAGAIN where the run was given away. */
static __always_inline int pick_from_run(struct service *service, const struct chooser *by, struct translation *to)
{
	const __u64 run = READ_ONCE(service->run);
	const __u32 base = run, count = run >> 32;
	const __u32 algorithm = READ_ONCE(service->settings) & SERVICE_ALGORITHM;
	__u32 at;

	if (count == 0)
		return -ECONNREFUSED;
	if (algorithm == ALGORITHM_LEAST_CONNECTIONS)
		return pick_least(to->service_index, base, count, by->is_v4, &to->backend_index);
	if (algorithm == ALGORITHM_RANDOM)
		at = bpf_get_prandom_u32();
	else if (algorithm == ALGORITHM_ROUND_ROBIN)
		at = __sync_fetch_and_add(&service->turn, 1);
	else
		at = hash_choice(by, algorithm, &to->service);
	to->backend_index = backend_in_run(service, base, at % count);
	return to->backend_index ? 0 : -EAGAIN;
}

static __always_inline int pick_backend(struct service *service, const struct chooser *by, struct translation *to)
{
	int result = pick_from_run(service, by, to);

	if (result == -EAGAIN)
		result = pick_from_run(service, by, to);
	if (result == 0 && !read_backend(to->backend_index, by->is_v4, &to->backend, &to->generation))
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
static __always_inline int pick_affine(void *map, const void *key, struct service *service, const struct chooser *by,
				       struct translation *to)
{
	const __u64 timeout_ns = (READ_ONCE(service->settings) >> SERVICE_TIMEOUT_SHIFT) * 1000000000ULL;
	const __u64 now = bpf_ktime_get_ns();
	struct affinity kept = { .seen_ns = now };
	int result;

	if (recall(map, key, timeout_ns, now, by->is_v4, to)) {
		kept.backend = to->backend_index;
		kept.generation = to->generation;
		bpf_map_update_elem(map, key, &kept, BPF_EXIST);
		return 0;
	}
	result = pick_backend(service, by, to);
	if (result)
		return result;
	kept.backend = to->backend_index;
	kept.generation = to->generation;
	bpf_map_delete_elem(map, key);
	if (bpf_map_update_elem(map, key, &kept, BPF_NOEXIST) == -EEXIST)
		recall(map, key, timeout_ns, now, by->is_v4, to);
	return 0;
}

static __always_inline int pick_for(struct service *service, const struct chooser *by, struct translation *to)
{
	if (!(READ_ONCE(service->settings) >> SERVICE_TIMEOUT_SHIFT))
		return pick_backend(service, by, to);
	if (by->is_v4) {
		const struct affinity_v4 key = { by->client->v4, to->service_index };

		return pick_affine(&affinity4, &key, service, by, to);
	}
	const struct affinity_v6 key = { by->client->v6, to->service_index };

	return pick_affine(&affinity6, &key, service, by, to);
}

/*
 * Chooses `to`'s backend for a new connection of `client` to to->service, which is service to->service_index: 0 or
 * -errno. `flow` tells the client's connections apart where the service spreads them by hash.
 */
static __always_inline int choose_for_flow(const struct socket_client *client, __u32 flow, bool is_v4,
					   struct translation *to)
{
	const struct chooser by = { client, flow, is_v4 };
	struct service *service = bpf_map_lookup_elem(&services, &to->service_index);
	struct backend_use *use;
	int result;

	if (!service)
		return -ECONNREFUSED;
	result = pick_for(service, &by, to);
	if (result)
		return result;
	__sync_fetch_and_add(&service->hits, 1);
	use = use_of(to->backend_index, is_v4);
	if (use)
		__sync_fetch_and_add(&use->hits, 1);
	return 0;
}

/*
 * The same for who has no flows to tell apart. Packet programs give choose_for_flow() the source port, and note with
 * connection_opened() and connection_closed() what they track themselves.
 */
static __always_inline int choose_backend(const struct socket_client *client, bool is_v4, struct translation *to)
{
	return choose_for_flow(client, 0, is_v4, to);
}
