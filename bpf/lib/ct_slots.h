/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The slab: slots of connections, taking and giving them back, ending a connection. Slots of a shard that were used are
 * on its list, the others are numbered from `fresh` on. Neither locks nor waits.
 */
#pragma once

#include "bpf/lib/ct_index.h"
#include "bpf/lib/service.h"

CT_ARRAY(ct4_slots, struct ct_slot_v4, BPF_F_MMAPABLE);
CT_ARRAY(ct6_slots, struct ct_slot_v6, BPF_F_MMAPABLE);
CT_ARRAY(ct4_ring, struct ct_index, 0);
CT_ARRAY(ct6_ring, struct ct_index, 0);

CT_ARRAY(old_ct4_slots, struct ct_slot_v4, BPF_F_MMAPABLE);
CT_ARRAY(old_ct6_slots, struct ct_slot_v6, BPF_F_MMAPABLE);
CT_ARRAY(old_ct4_ring, struct ct_index, 0);
CT_ARRAY(old_ct6_ring, struct ct_index, 0);

#define CT_SHARD_ARRAY(name)                        \
	struct {                                    \
		__uint(type, BPF_MAP_TYPE_ARRAY);   \
		__uint(max_entries, 2 * CT_SHARDS); \
		__type(key, __u32);                 \
		__type(value, struct ct_shard);     \
	} name SEC(".maps")

CT_SHARD_ARRAY(ct_shards);
CT_SHARD_ARRAY(old_ct_shards);

/* [0]: how far the move is. */
CT_ARRAY(old_ct_move, struct ct_move, 0);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CT_MAX_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} ct_counters SEC(".maps");

static __always_inline void ct_count(__u32 counter)
{
	__u64 *count = bpf_map_lookup_elem(&ct_counters, &counter);

	if (count)
		(*count)++;
}

static __always_inline struct ct_head *ct_slot(__u32 index, bool is_v4)
{
	if (ct_is_old(index, is_v4)) {
		index &= ~CT_OLD;
		return is_v4 ? bpf_map_lookup_elem(&old_ct4_slots, &index)
			     : bpf_map_lookup_elem(&old_ct6_slots, &index);
	}
	return is_v4 ? bpf_map_lookup_elem(&ct4_slots, &index) : bpf_map_lookup_elem(&ct6_slots, &index);
}

static __always_inline __u32 slots_of_shard(__u32 set, bool is_v4)
{
	return ct_is_old(set, is_v4) ? ct_old_shard_slots[is_v4 ? 0 : 1] : ct_shard_slots[is_v4 ? 0 : 1];
}

static __always_inline struct ct_shard *ct_shard(__u32 shard, __u32 set, bool is_v4)
{
	const __u32 key = (shard % CT_SHARDS) + (is_v4 ? 0 : CT_SHARDS);

	return ct_is_old(set, is_v4) ? bpf_map_lookup_elem(&old_ct_shards, &key)
				     : bpf_map_lookup_elem(&ct_shards, &key);
}

/* The set that new connections go into: the old one, until every program looks into both. */
static __always_inline __u32 ct_target(bool is_v4)
{
	const __u32 key = 0;
	const struct ct_move *move = ct_moves(is_v4) ? bpf_map_lookup_elem(&old_ct_move, &key) : NULL;

	return move && !READ_ONCE(move->all_look) ? CT_OLD : 0;
}

static __always_inline __u32 make_tag(__u32 generation, __u32 life)
{
	return generation << CT_LIFE_BITS | life;
}

static __always_inline bool change_tag(struct ct_head *head, __u32 before, __u32 after)
{
	return __sync_val_compare_and_swap(&head->tag, before, after) == before;
}

/* Puts a slot that is DYING and in no hash back on its shard's list, of the next generation. */
static __always_inline void give_back(struct ct_head *head, __u32 index, bool is_v4)
{
	const __u32 per_shard = slots_of_shard(index, is_v4);
	const __u32 number = ct_is_old(index, is_v4) ? index & ~CT_OLD : index;
	struct ct_shard *shard = per_shard ? ct_shard(number / per_shard, index, is_v4) : NULL;
	const __u32 dying = head->tag;

	if (!shard)
		return;
	for (int i = 0; i < 16; i++) {
		const __u64 top = READ_ONCE(shard->free);

		head->next = top;
		head->tag = make_tag((dying >> CT_LIFE_BITS) + 1, CT_FREE);
		if (__sync_val_compare_and_swap(&shard->free, top, ((top >> 32) + 1) << 32 | (number + 1)) == top)
			return;
	}
	/* Others were quicker each time: the sweep tries again. */
	head->deadline = jiffies32();
	head->tag = dying;
}

struct ct_walk {
	__u32 first; /* shard to begin with */
	__u32 index; /* of the slot that was taken */
	__u32 set;   /* to take it from */
	__u32 is_v4;
	__u32 found;
};

static __always_inline int take_from(struct ct_walk *walk, __u32 number, bool is_v4)
{
	struct ct_shard *shard = ct_shard(number, walk->set, is_v4);
	const __u32 per_shard = slots_of_shard(walk->set, is_v4);
	const struct ct_head *head;
	__u64 top;
	__u32 index, next;

	if (!shard)
		return 0;
	top = READ_ONCE(shard->free);
	index = top;
	if (index) {
		head = ct_slot((index - 1) | walk->set, is_v4);
		if (!head)
			return 0;
		next = READ_ONCE(head->next);
		if (__sync_val_compare_and_swap(&shard->free, top, ((top >> 32) + 1) << 32 | next) != top)
			return 0;
		walk->index = (index - 1) | walk->set;
		walk->found = 1;
		return 1;
	}
	if (READ_ONCE(shard->fresh) >= per_shard)
		return 0;
	index = __sync_fetch_and_add(&shard->fresh, 1);
	if (index >= per_shard)
		return 0;
	walk->index = (number % CT_SHARDS * per_shard + index) | walk->set;
	walk->found = 1;
	return 1;
}

/* Four tries a shard: one that others are busy with is left alone. */
static long take_step(__u32 i, struct ct_walk *walk)
{
	const __u32 number = walk->first + i / 4;

	return walk->is_v4 ? take_from(walk, number, true) : take_from(walk, number, false);
}

/* The hash of what the client sees of a connection … */
static __always_inline __u64 forward_hash(const struct ct_head *head, bool is_v4)
{
	const struct ct_slot_v4 *v4 = (const void *)head;
	const struct ct_slot_v6 *v6 = (const void *)head;

	return is_v4 ? ct_hash_v4(v4->client, v4->client_port, v4->server, v4->server_port, head->protocol)
		     : ct_hash_v6(&v6->client, v6->client_port, &v6->server, v6->server_port, head->protocol);
}

/* … and of what the server sees, where it is translated. */
static __always_inline __u64 reverse_hash(const struct ct_head *head, bool is_v4)
{
	const struct ct_slot_v4 *v4 = (const void *)head;
	const struct ct_slot_v6 *v6 = (const void *)head;

	return is_v4 ? ct_hash_v4(v4->from, v4->from_port, v4->to, v4->to_port, head->protocol)
		     : ct_hash_v6(&v6->from, v6->from_port, &v6->to, v6->to_port, head->protocol);
}

/* Takes a connection's keys out of the index. */
static __always_inline void remove_keys(const struct ct_head *head, __u32 index, __u32 generation, bool is_v4)
{
	if (head->flags & CT_TRANSLATED)
		remove_entry(reverse_hash(head, is_v4), index, generation, is_v4);
	remove_entry(forward_hash(head, is_v4), index, generation, is_v4);
}

/* Whether it goes on in its slot: else whoever ended it may have looked for a key before that was there. */
static __always_inline bool lives_on(const struct ct_head *head, __u32 generation)
{
	const __u32 tag = READ_ONCE(head->tag);

	return tag >> CT_LIFE_BITS == (generation & (~0U >> CT_LIFE_BITS)) && (tag & CT_LIFE_MASK) != CT_DYING;
}

/* The slot is DYING, by the caller's doing: takes its keys out of the index and gives it back. */
static __always_inline void bury(struct ct_head *head, __u32 index, bool is_v4)
{
	remove_keys(head, index, head->tag >> CT_LIFE_BITS, is_v4);
	if (head->service)
		connection_closed(head->backend, head->backend_generation, is_v4);
	ct_count(is_v4 ? CT_ENDED_V4 : CT_ENDED_V6);
	give_back(head, index, is_v4);
}

static __always_inline int end_slot(__u32 index, __u32 tag, bool is_v4)
{
	struct ct_head *head = ct_slot(index, is_v4);

	if (!head || !change_tag(head, tag, (tag & ~CT_LIFE_MASK) | CT_DYING))
		return 0;
	head->deadline = jiffies32();
	bury(head, index, is_v4);
	return 1;
}

/* Functions of their own to the verifier, which looks at each once. */
__noinline int end_v4(__u32 index, __u32 tag)
{
	return end_slot(index, tag, true);
}

__noinline int end_v6(__u32 index, __u32 tag)
{
	return end_slot(index, tag, false);
}

/* Ends the connection that slot `index` holds by `tag`; false where another was first. */
static __always_inline bool end_connection(__u32 index, __u32 tag, bool is_v4)
{
	return is_v4 ? end_v4(index, tag) : end_v6(index, tag);
}

/* The shard whose record counts the family's ring: all processors share one, which is in order of age. */
static __always_inline struct ct_shard *ring_of(__u32 set, bool is_v4)
{
	return ct_shard(0, set, is_v4);
}

static __always_inline __u32 size_of_ring(__u32 set, bool is_v4)
{
	return ct_is_old(set, is_v4) ? ct_old_ring_size[is_v4 ? 0 : 1] : ct_ring_size[is_v4 ? 0 : 1];
}

static __always_inline struct ct_index *ring_place(__u32 position, __u32 set, bool is_v4)
{
	const __u32 size = size_of_ring(set, is_v4);
	const __u32 key = size ? position % size : 0;

	if (ct_is_old(set, is_v4))
		return is_v4 ? bpf_map_lookup_elem(&old_ct4_ring, &key) : bpf_map_lookup_elem(&old_ct6_ring, &key);
	return is_v4 ? bpf_map_lookup_elem(&ct4_ring, &key) : bpf_map_lookup_elem(&ct6_ring, &key);
}

/* Ends the unanswered connection that a place in the ring names, if it is one still. */
static __always_inline bool reclaim(const struct ct_index *place, __u32 set, bool is_v4)
{
	const __u32 number = READ_ONCE(place->slot) - 1;
	const __u32 index = number | (ct_is_old(set, is_v4) ? CT_OLD : 0);
	const __u32 tag = make_tag(READ_ONCE(place->generation), CT_NEW);
	struct ct_head *head = number & CT_OLD ? NULL : ct_slot(index, is_v4); /* none where the place was never used */

	if (!head || READ_ONCE(head->tag) != tag || !end_connection(index, tag, is_v4))
		return false;
	ct_count(CT_RECLAIMED);
	return true;
}

static __always_inline int reclaim_oldest(struct ct_walk *walk, bool is_v4)
{
	const __u32 size = size_of_ring(walk->set, is_v4);
	struct ct_shard *ring = ring_of(walk->set, is_v4);
	const struct ct_index *place;
	__u32 head, tail, oldest;

	if (!ring)
		return 1;
	head = READ_ONCE(ring->ring_head);
	tail = READ_ONCE(ring->ring_tail);
	if (head == tail)
		return 1;
	oldest = head - tail > size ? head - size : tail; /* the head may have gone round */
	if (__sync_val_compare_and_swap(&ring->ring_tail, tail, oldest + 1) != tail)
		return 0;
	place = ring_place(oldest, walk->set, is_v4);
	walk->found = place && reclaim(place, walk->set, is_v4);
	return walk->found;
}

static long reclaim_step(__u32 i, struct ct_walk *walk)
{
	return walk->is_v4 ? reclaim_oldest(walk, true) : reclaim_oldest(walk, false);
}

/* So many places of the ring are looked at for a slot: where most were answered, refusal is cheaper than the search. */
#define CT_RECLAIM_TRIES 1024

/* Takes a slot of the set, FILLING from here on, by reclaiming if need be; NULL: full. */
static __always_inline struct ct_head *take_slot(__u32 *index, __u32 set, bool is_v4)
{
	struct ct_walk walk = { .first = bpf_get_smp_processor_id(), .set = set, .is_v4 = is_v4 };
	struct ct_head *head;

	bpf_loop(4 * CT_SHARDS, take_step, &walk, 0);
	if (!walk.found) {
		bpf_loop(CT_RECLAIM_TRIES, reclaim_step, &walk, 0);
		if (!walk.found)
			return NULL;
		walk.found = 0;
		bpf_loop(4 * CT_SHARDS, take_step, &walk, 0);
		if (!walk.found)
			return NULL;
	}
	head = ct_slot(walk.index, is_v4);
	if (!head)
		return NULL;
	head->tag = (head->tag & ~CT_LIFE_MASK) | CT_FILLING;
	*index = walk.index;
	return head;
}

/* Puts an unanswered connection into the ring; the one that was there a round before is reclaimed. */
static __always_inline void enter_ring(__u32 index, __u32 generation, bool is_v4)
{
	struct ct_shard *ring = ring_of(index, is_v4);
	struct ct_index *place;

	if (!ring)
		return;
	place = ring_place(__sync_fetch_and_add(&ring->ring_head, 1), index, is_v4);
	if (!place)
		return;
	reclaim(place, index, is_v4);
	place->slot = (ct_is_old(index, is_v4) ? index & ~CT_OLD : index) + 1;
	place->generation = generation;
}
