/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counting verdicts: inner functions return a drop reason (0: none), only an entry program turns it into a verdict. */
#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "bpf/abi/drop.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_DROP_REASONS);
	__type(key, __u32);
	__type(value, struct packet_counter);
} pod_counters SEC(".maps");

/* Counts one packet judged `reason`, and gives the verdict of a program that lets what is not dropped go on. */
static __always_inline int count_verdict(const struct __sk_buff *skb, enum drop_reason reason)
{
	__u32 key = reason;
	struct packet_counter *counter = bpf_map_lookup_elem(&pod_counters, &key);

	if (counter) {
		counter->packets++;
		counter->bytes += skb->len;
	}
	return reason == DROP_NONE ? TC_ACT_OK : TC_ACT_SHOT;
}
