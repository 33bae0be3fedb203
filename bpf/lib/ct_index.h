/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The index: from a key's hash to the slot of its connection. Readers load a cache line, seldom two, and take no lock;
 * who adds an entry locks the key's first bucket, so that of two with the same key one is first.
 *
 * While the agent moves connections into maps of another size (bpf/lib/ct_move.h), there are two sets of maps, and
 * CT_OLD in a slot's number says which set it is of. Otherwise the verifier finds that nothing can be of the old one,
 * and leaves it out.
 */
#pragma once

#include "bpf/abi/conntrack.h"
#include "bpf/lib/clock.h"
#include "bpf/lib/service.h"

/* Sizes, set by the agent before the load, each of IPv4 and IPv6. */
const volatile __u32 ct_buckets[2] = { 1, 1 };     /* of the index */
const volatile __u32 ct_shard_slots[2] = { 1, 1 }; /* slots of one shard */
const volatile __u32 ct_ring_size[2] = { 1, 1 };   /* places for unanswered connections */
/* … and of the set that connections are moved out of; 0: none is. */
const volatile __u32 ct_old_buckets[2] = { 0, 0 };
const volatile __u32 ct_old_shard_slots[2] = { 0, 0 };
const volatile __u32 ct_old_ring_size[2] = { 0, 0 };

#define CT_OLD (1U << 31)

#define CT_ARRAY(name, value_type, flags)         \
	struct {                                  \
		__uint(type, BPF_MAP_TYPE_ARRAY); \
		__uint(map_flags, flags);         \
		__uint(max_entries, 1);           \
		__type(key, __u32);               \
		__type(value, value_type);        \
	} name SEC(".maps")

/* Nobody maps the index into memory: the flag has its elements begin at a page, so each is one cache line. */
CT_ARRAY(ct4, struct ct_bucket, BPF_F_MMAPABLE);
CT_ARRAY(ct6, struct ct_bucket, BPF_F_MMAPABLE);
CT_ARRAY(old_ct4, struct ct_bucket, BPF_F_MMAPABLE);
CT_ARRAY(old_ct6, struct ct_bucket, BPF_F_MMAPABLE);

/* Whether there are two sets: a constant to the verifier. */
static __always_inline bool ct_moves(bool is_v4)
{
	return ct_old_shard_slots[is_v4 ? 0 : 1] != 0;
}

static __always_inline bool ct_is_old(__u32 index, bool is_v4)
{
	return ct_moves(is_v4) && index & CT_OLD;
}

/* From here on `set` is any slot's number, of which CT_OLD alone counts. */
static __always_inline struct ct_bucket *ct_bucket(__u64 hash, bool first, __u32 set, bool is_v4)
{
	const bool old = ct_is_old(set, is_v4);
	const __u32 buckets = old ? ct_old_buckets[is_v4 ? 0 : 1] : ct_buckets[is_v4 ? 0 : 1];
	const __u32 number = first ? ct_first_bucket(hash, buckets) : ct_second_bucket(hash, buckets);

	if (old)
		return is_v4 ? bpf_map_lookup_elem(&old_ct4, &number) : bpf_map_lookup_elem(&old_ct6, &number);
	return is_v4 ? bpf_map_lookup_elem(&ct4, &number) : bpf_map_lookup_elem(&ct6, &number);
}

static __always_inline __u64 ct_seed(void)
{
	const __u32 zero = 0;
	const struct ct_config *config = bpf_map_lookup_elem(&ct_config, &zero);

	return config ? config->seed : 0;
}

/* A key's hash, of its ends in either order. */
static __always_inline __u64 ct_hash_v4(__be32 a, __be16 a_port, __be32 b, __be16 b_port, __u8 protocol)
{
	const __u64 seed = ct_seed();

	return ct_hash_of(ct_hash_end_v4(a, a_port, seed), ct_hash_end_v4(b, b_port, seed), protocol);
}

static __always_inline __u64 ct_hash_v6(const struct ipv6_address *a, __be16 a_port, const struct ipv6_address *b,
					__be16 b_port, __u8 protocol)
{
	const __u64 seed = ct_seed();

	return ct_hash_of(ct_hash_end_v6(a, a_port, seed), ct_hash_end_v6(b, b_port, seed), protocol);
}

static __always_inline __u64 ct_hash(const struct ipv6_address *a, __be16 a_port, const struct ipv6_address *b,
				     __be16 b_port, __u8 protocol, bool is_v4)
{
	return is_v4 ? ct_hash_v4(a->words[3], a_port, b->words[3], b_port, protocol)
		     : ct_hash_v6(a, a_port, b, b_port, protocol);
}

/*
 * 1 where an entry's hash is this half of one, else 0, by arithmetic: a branch would double what the verifier has to
 * walk, and be foreseen by no processor. Multiply by it: of a mask, newer verifiers make two cases.
 */
static __always_inline __u64 has_hash(__u64 entry, __u32 half)
{
	__u64 difference = entry >> 32 ^ half, none;

	asm volatile("" : "+r"(difference)); /* or the compiler sees what is meant, and makes a branch of it … */
	none = (difference - 1) >> 63;
	asm volatile("" : "+r"(none)); /* … or of what is made of it */
	return none;
}

/* The entry of the hash, of which there is one at most, or 0. */
static __always_inline __u64 entry_in(const struct ct_bucket *bucket, __u64 hash)
{
	__u64 found = 0;

	for (int i = 0; i < CT_BUCKET_ENTRIES; i++) {
		const __u64 entry = READ_ONCE(bucket->entries[i]);

		found |= entry * has_hash(entry, hash);
	}
	return found;
}

/* Seldom asked: functions of their own to the verifier, which looks at each once. */
__noinline __u64 entry_in_second_v4(__u64 hash, __u32 set)
{
	const struct ct_bucket *bucket = ct_bucket(hash, false, set, true);

	return bucket ? entry_in(bucket, hash) : 0;
}

__noinline __u64 entry_in_second_v6(__u64 hash, __u32 set)
{
	const struct ct_bucket *bucket = ct_bucket(hash, false, set, false);

	return bucket ? entry_in(bucket, hash) : 0;
}

/* The entry of the key, or 0. Another key's, where their hashes are equal: the slot tells. */
static __always_inline __u64 find_entry(__u64 hash, __u32 set, bool is_v4)
{
	const struct ct_bucket *bucket = ct_bucket(hash, true, set, is_v4);
	__u64 entry;

	if (!bucket)
		return 0;
	entry = entry_in(bucket, hash);
	if (entry || !READ_ONCE(bucket->spilled))
		return entry;
	return is_v4 ? entry_in_second_v4(hash, set) : entry_in_second_v6(hash, set);
}

/* How full a bucket is. */
struct ct_room {
	__u64 used;
	__u64 free; /* a place; CT_BUCKET_ENTRIES: none */
};

static __always_inline struct ct_room room_in(const struct ct_bucket *bucket)
{
	struct ct_room room = { .used = CT_BUCKET_ENTRIES, .free = CT_BUCKET_ENTRIES };

	for (__u64 i = 0; i < CT_BUCKET_ENTRIES; i++) {
		const __u64 free = has_hash(READ_ONCE(bucket->entries[i]), 0); /* no entry has that */

		room.used -= free;
		room.free ^= (room.free ^ i) * free;
	}
	return room;
}

#define CT_FULL 1  /* no entry has a hash of 0 */
#define CT_AGAIN 2 /* another took the place */

static __always_inline __u64 put_entry(struct ct_bucket *bucket, __u64 place, __u64 entry)
{
	if (place >= CT_BUCKET_ENTRIES)
		return CT_FULL;
	return __sync_val_compare_and_swap(&bucket->entries[place], 0, entry) ? CT_AGAIN : 0;
}

/* Puts it into the emptier bucket, if the key is not in the second. The first one's lock is held. */
static __always_inline __u64 put_into_either(struct ct_bucket *first, struct ct_bucket *second, struct ct_room in_first,
					     __u64 hash, __u64 entry)
{
	const struct ct_room in_second = room_in(second);
	const __u64 held = entry_in(second, hash);
	__u64 result;

	if (held)
		return held;
	if (in_first.used < CT_BUCKET_FAIR || in_first.used <= in_second.used)
		return put_entry(first, in_first.free, entry);
	__sync_fetch_and_add(&first->spilled, 1); /* before it is to be found there */
	result = put_entry(second, in_second.free, entry);
	if (result)
		__sync_fetch_and_add(&first->spilled, -1);
	return result;
}

/* One try to add: 0, the entry that the key has, CT_FULL or CT_AGAIN. */
static __always_inline __u64 try_to_add(struct ct_bucket *first, struct ct_bucket *second, __u64 hash, __u64 entry)
{
	struct ct_room in_first;
	__u64 result;

	bpf_spin_lock(&first->lock);
	in_first = room_in(first);
	result = entry_in(first, hash);
	if (!result)
		result = in_first.used < CT_BUCKET_FAIR && !first->spilled
				 ? put_entry(first, in_first.free, entry)
				 : put_into_either(first, second, in_first, hash, entry);
	bpf_spin_unlock(&first->lock);
	return result;
}

static __always_inline __u64 add(__u64 hash, __u32 index, __u32 generation, bool is_v4)
{
	const __u32 slot = ct_is_old(index, is_v4) ? index & ~CT_OLD : index;
	struct ct_bucket *first = ct_bucket(hash, true, index, is_v4);
	struct ct_bucket *second = ct_bucket(hash, false, index, is_v4);

	if (!first || !second)
		return CT_FULL;
	for (int i = 0; i < 4; i++) {
		const __u64 result = try_to_add(first, second, hash, CT_ENTRY(hash, slot, generation));

		if (result != CT_AGAIN)
			return result;
	}
	return CT_FULL;
}

/* Functions of their own, too. */
__noinline __u64 add_v4(__u64 hash, __u32 index, __u32 generation)
{
	return add(hash, index, generation, true);
}

__noinline __u64 add_v6(__u64 hash, __u32 index, __u32 generation)
{
	return add(hash, index, generation, false);
}

/*
 * Leads a key to a slot: 0; the entry that the key has; or CT_FULL: there is no place in either bucket, or others were
 * quicker each time.
 */
static __always_inline __u64 add_entry(__u64 hash, __u32 index, __u32 generation, bool is_v4)
{
	return is_v4 ? add_v4(hash, index, generation) : add_v6(hash, index, generation);
}

static __always_inline bool remove_from(struct ct_bucket *bucket, __u64 entry)
{
	for (int i = 0; i < CT_BUCKET_ENTRIES; i++) {
		if (READ_ONCE(bucket->entries[i]) == entry &&
		    __sync_val_compare_and_swap(&bucket->entries[i], entry, 0) == entry)
			return true;
	}
	return false;
}

static __always_inline int remove(__u64 hash, __u32 index, __u32 generation, bool is_v4)
{
	const __u64 entry = CT_ENTRY(hash, ct_is_old(index, is_v4) ? index & ~CT_OLD : index, generation);
	struct ct_bucket *first = ct_bucket(hash, true, index, is_v4);
	struct ct_bucket *second;

	if (!first)
		return 0;
	if (remove_from(first, entry))
		return 1;
	if (!READ_ONCE(first->spilled))
		return 0;
	second = ct_bucket(hash, false, index, is_v4);
	if (!second || !remove_from(second, entry))
		return 0;
	__sync_fetch_and_add(&first->spilled, -1);
	return 1;
}

__noinline int remove_v4(__u64 hash, __u32 index, __u32 generation)
{
	return remove(hash, index, generation, true);
}

__noinline int remove_v6(__u64 hash, __u32 index, __u32 generation)
{
	return remove(hash, index, generation, false);
}

/* Takes the key's entry away if it leads to this use of the slot. */
static __always_inline void remove_entry(__u64 hash, __u32 index, __u32 generation, bool is_v4)
{
	if (is_v4)
		remove_v4(hash, index, generation);
	else
		remove_v6(hash, index, generation);
}
