/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Moving connections from one set of maps into another while packets pass (agent/datapath/migration.h). Packets look
 * into the new set, then into the old one, then into the new one again, so they find a connection wherever it is. What
 * is in the new set alone counts; a processor that had found the old slot just before may still move that one, which is
 * looked at once more after the copy. Nobody takes the old slot away from under it: it stays, unreachable, until its
 * map goes.
 */
#pragma once

#include "bpf/lib/conntrack.h"

#define CT_MOVE_SLOTS 4096      /* of a family, by one run */
#define CT_MOVE_REST (1U << 29) /* jiffies for which the sweep leaves what was moved alone */

/* State, protocol, flags and closer, which change as one word. */
static __always_inline __u32 *state_word(struct ct_head *head)
{
	return (__u32 *)&head->state;
}
#define CT_MOVED_WORD ((__u32)CT_MOVED << 16) /* flags are the third byte */

/* Fills the new slot with the connection of the old one. `judged` is bound to a slot's generation: so it is moved on.
 */
static __always_inline void copy_connection(struct ct_head *to, const struct ct_head *from, __u32 from_tag, bool is_v4)
{
	const __u32 tag = to->tag;
	const __u32 shift = ((tag >> CT_LIFE_BITS) - (from_tag >> CT_LIFE_BITS)) * 2654435761U;
	__u32 *judged = judged_of(to, is_v4);

	if (is_v4)
		__builtin_memcpy(&to->deadline, &from->deadline, sizeof(struct ct_slot_v4) - sizeof(to->tag));
	else
		__builtin_memcpy(&to->deadline, &from->deadline, sizeof(struct ct_slot_v6) - sizeof(to->tag));
	judged[POLICY_INGRESS] += shift;
	judged[POLICY_EGRESS] += shift;
}

/* Leads the connection's keys to its new slot; false where there is no room. */
static __always_inline bool enter_keys(const struct ct_head *head, __u32 index, __u32 generation, bool is_v4)
{
	const __u64 forward = forward_hash(head, is_v4);
	__u64 reverse;

	if (add_entry(forward, index, generation, is_v4))
		return false;
	if (!(head->flags & CT_TRANSLATED))
		return true;
	reverse = reverse_hash(head, is_v4);
	if (add_entry(reverse, index, generation, is_v4)) {
		remove_entry(forward, index, generation, is_v4);
		return false;
	}
	if (!lives_on(head, generation))
		remove_entry(reverse, index, generation, is_v4);
	return true;
}

/* What another processor did to the old slot while it was copied is done to the new one. Marks the old one. */
static __always_inline void catch_up(struct ct_head *to, struct ct_head *from, __u32 tag, __u32 from_tag, __u32 word)
{
	const __u32 now = __sync_fetch_and_or(state_word(from), CT_MOVED_WORD);

	if (now != word)
		__sync_val_compare_and_swap(state_word(to), word, now);
	if (READ_ONCE(from->tag) == ((from_tag & ~CT_LIFE_MASK) | CT_ANSWERED))
		change_tag(to, tag, (tag & ~CT_LIFE_MASK) | CT_ANSWERED);
}

static __always_inline void move_slot(struct ct_move *move, __u32 number, bool is_v4)
{
	const __u32 old = number | CT_OLD;
	struct ct_head *from = ct_slot(old, is_v4);
	struct ct_head *to;
	__u32 from_tag, life, word, tag, index;

	if (!from)
		return;
	from_tag = READ_ONCE(from->tag);
	life = from_tag & CT_LIFE_MASK;
	word = READ_ONCE(*state_word(from));
	if ((life != CT_NEW && life != CT_ANSWERED) || word & CT_MOVED_WORD ||
	    is_past(READ_ONCE(from->deadline), jiffies32()))
		return;
	to = take_slot(&index, 0, is_v4);
	if (!to) {
		move->lost++;
		return;
	}
	copy_connection(to, from, from_tag, is_v4);
	tag = (to->tag & ~CT_LIFE_MASK) | life;
	__sync_lock_test_and_set(&to->tag, tag); /* whole before a key leads to it */
	if (!enter_keys(to, index, tag >> CT_LIFE_BITS, is_v4)) {
		if (change_tag(to, tag, (tag & ~CT_LIFE_MASK) | CT_DYING))
			give_back(to, index, is_v4);
		move->lost++;
		return;
	}
	if (life == CT_NEW)
		enter_ring(index, tag >> CT_LIFE_BITS, is_v4);
	from->deadline = jiffies32() + CT_MOVE_REST;
	remove_keys(from, old, from_tag >> CT_LIFE_BITS, is_v4);
	catch_up(to, from, tag, from_tag, word);
	move->moved++;
}

/* Functions of their own to the verifier, which looks at each once. */
__noinline int move_v4(__u32 number)
{
	const __u32 key = 0;
	struct ct_move *move = bpf_map_lookup_elem(&old_ct_move, &key);

	if (move && ct_moves(true))
		move_slot(move, number, true);
	return 0;
}

__noinline int move_v6(__u32 number)
{
	const __u32 key = 0;
	struct ct_move *move = bpf_map_lookup_elem(&old_ct_move, &key);

	if (move && ct_moves(false))
		move_slot(move, number, false);
	return 0;
}

static long move_step_v4(__u32 i, __u32 *first)
{
	return move_v4(*first + i);
}

static long move_step_v6(__u32 i, __u32 *first)
{
	return move_v6(*first + i);
}

/* Moves the connections of the next slots of both families; 0 once there are none. */
static __always_inline int move_some(void)
{
	const __u32 key = 0;
	struct ct_move *move;
	__u32 first;

	/* Constants: without a move the rest is not there, nor its map. */
	if (!ct_moves(true) || !ct_moves(false))
		return 0;
	move = bpf_map_lookup_elem(&old_ct_move, &key);
	if (!move)
		return 0;
	first = move->next[0];
	bpf_loop(CT_MOVE_SLOTS, move_step_v4, &first, 0);
	move->next[0] = first + CT_MOVE_SLOTS;
	first = move->next[1];
	bpf_loop(CT_MOVE_SLOTS, move_step_v6, &first, 0);
	move->next[1] = first + CT_MOVE_SLOTS;
	return move->next[0] < ct_old_shard_slots[0] * CT_SHARDS || move->next[1] < ct_old_shard_slots[1] * CT_SHARDS;
}
