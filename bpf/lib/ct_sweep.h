/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The sweep: ends what is past its deadline without waiting for a packet. One timer a shard, in the kernel. */
#pragma once

#include "bpf/lib/conntrack.h"

#define CT_SWEEP_PERIOD_NS 5000000000ULL /* all slots ever used are seen within it … */
#define CT_SWEEP_MIN_NS 20000000ULL      /* … unless that took more ticks than one each so long */

struct sweep {
	__u32 first; /* slot of the shard's run */
	__u32 used;  /* of its slots */
	__u32 at;    /* the next one to look at */
	__u32 now;
	__u32 is_v4;
};

static __always_inline void sweep_slot(__u32 index, __u32 now, bool is_v4)
{
	struct ct_head *head = ct_slot(index, is_v4);
	__u32 tag, life, deadline;

	if (!head)
		return;
	tag = READ_ONCE(head->tag);
	life = tag & CT_LIFE_MASK;
	deadline = READ_ONCE(head->deadline);
	if (life == CT_DYING) {
		/* Who was burying it had to give up. One who is at it right now made it so less than a second ago. */
		if (is_past(deadline + jiffies_per_second(), now) &&
		    __sync_val_compare_and_swap(&head->deadline, deadline, now) == deadline)
			bury(head, index, is_v4);
		return;
	}
	if (life < CT_NEW || life > CT_CONDEMNED)
		return;
	if (life == CT_CONDEMNED || is_past(deadline, now) ||
	    (head->service && head->protocol == IPPROTO_UDP && is_backend_gone(head, true, is_v4)))
		end_connection(index, tag, is_v4);
}

static long sweep_step(__u32 i, struct sweep *sweep)
{
	if (sweep->at >= sweep->used)
		sweep->at = 0;
	if (sweep->is_v4)
		sweep_slot(sweep->first + sweep->at, sweep->now, true);
	else
		sweep_slot(sweep->first + sweep->at, sweep->now, false);
	sweep->at++;
	return 0;
}

/* One tick of a shard. Returns how long to wait for the next. */
static __always_inline __u64 sweep_shard(__u32 key, struct ct_shard *shard)
{
	const bool is_v4 = key < CT_SHARDS;
	const __u32 slots = ct_shard_slots[is_v4 ? 0 : 1];
	const __u32 fresh = READ_ONCE(shard->fresh);
	struct sweep sweep = { .first = key % CT_SHARDS * slots,
			       .used = fresh < slots ? fresh : slots,
			       .at = shard->cursor,
			       .now = jiffies32(),
			       .is_v4 = is_v4 };
	__u64 wait;

	bpf_loop(sweep.used < CT_SWEEP_SLOTS ? sweep.used : CT_SWEEP_SLOTS, sweep_step, &sweep, 0);
	shard->cursor = sweep.at;
	shard->swept = sweep.now;
	wait = CT_SWEEP_PERIOD_NS / (sweep.used / CT_SWEEP_SLOTS + 1);
	return wait > CT_SWEEP_MIN_NS ? wait : CT_SWEEP_MIN_NS;
}

static int sweep_tick(void *map, __u32 *key, struct ct_shard *shard)
{
	bpf_timer_start(&shard->timer, sweep_shard(*key, shard), 0);
	return 0;
}

/* Timers outlive agents; whoever starts them gives them its own program. */
static long start_step(__u32 i, void *context)
{
	struct ct_shard *shard = bpf_map_lookup_elem(&ct_shards, &i);

	if (!shard)
		return 1;
	bpf_timer_init(&shard->timer, &ct_shards, 1 /* CLOCK_MONOTONIC */); /* fails where there is one */
	bpf_timer_set_callback(&shard->timer, sweep_tick);
	bpf_timer_start(&shard->timer, CT_SWEEP_MIN_NS * i, 0);
	return 0;
}

static long sweep_now_step(__u32 i, void *context)
{
	struct ct_shard *shard = bpf_map_lookup_elem(&ct_shards, &i);

	if (shard)
		sweep_shard(i, shard);
	return 0;
}
