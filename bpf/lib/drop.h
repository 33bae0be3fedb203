/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Verdicts: inner functions return a drop reason (0: none); only an entry program turns it into a verdict, here, which
 * counts it and tells it.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "bpf/abi/drop.h"
#include "bpf/abi/event.h"
#include "bpf/lib/address.h"
#include "bpf/lib/parse.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_DROP_REASONS);
	__type(key, __u32);
	__type(value, struct packet_counter);
} pod_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENT_RING_BYTES);
} events SEC(".maps");

/* What was told last, of each reason and device; by each processor for itself. */
struct told_key {
	__u32 reason;
	__u32 ifindex;
};

struct told {
	__u64 time_ns;
	__u32 packets; /* since then */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct told_key);
	__type(value, struct told);
} tmp_told SEC(".maps");

static __always_inline void copy_tuple(struct drop_event *event, const struct packet *packet)
{
	event->source = packet->source;
	event->destination = packet->destination;
	event->source_port = packet->source_port;
	event->destination_port = packet->destination_port;
	event->protocol = packet->protocol;
}

/* The device of the pod whose policy denied the packet at hand. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} tmp_isolated SEC(".maps");

static __always_inline void remember_isolated(__u32 ifindex)
{
	const __u32 zero = 0;
	__u32 *isolated = bpf_map_lookup_elem(&tmp_isolated, &zero);

	if (isolated)
		*isolated = ifindex;
}

/* Who denied is remembered wherever one of these is the reason. */
static __always_inline __u32 isolated_by(__u32 reason)
{
	const __u32 zero = 0;
	const __u32 *isolated;

	if (reason != DROP_POLICY_INGRESS && reason != DROP_POLICY_EGRESS)
		return 0;
	isolated = bpf_map_lookup_elem(&tmp_isolated, &zero);
	return isolated ? *isolated : 0;
}

/* Tells of a drop, unless one of its kind was told just now. `packet` holds what was read of it, or zeros. */
__noinline int tell_drop(const struct __sk_buff *skb, const struct packet *packet, __u32 reason, __u32 to_pod)
{
	const struct told_key key = { reason, skb->ifindex };
	const struct told fresh = { .time_ns = bpf_ktime_get_ns() };
	struct told *last = bpf_map_lookup_elem(&tmp_told, &key);
	struct drop_event *event;
	__u32 packets = 1;

	if (!packet)
		return 0;
	if (last) {
		packets += last->packets;
		if (fresh.time_ns - last->time_ns < EVENT_INTERVAL_NS) {
			last->packets = packets;
			return 0;
		}
		*last = fresh;
	} else {
		bpf_map_update_elem(&tmp_told, &key, &fresh, BPF_ANY);
	}
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) /* nobody reads: counters go on counting */
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->kind = EVENT_DROP;
	event->reason = reason;
	event->time_ns = fresh.time_ns;
	event->ifindex = skb->ifindex;
	event->packets = packets;
	copy_tuple(event, packet);
	if (skb->protocol == bpf_htons(ETH_P_IP) && packet->network) {
		event->source.words[2] = MAPPED_PREFIX;
		event->destination.words[2] = MAPPED_PREFIX;
	}
	event->to_pod = to_pod;
	event->isolated = isolated_by(reason);
	event->length = skb->len < 0xffff ? skb->len : 0xffff;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* Counts one packet judged `reason`, and gives the verdict of a program that lets what is not dropped go on. */
static __always_inline int count_verdict(const struct __sk_buff *skb, const struct packet *packet,
					 enum drop_reason reason, bool to_pod)
{
	__u32 key = reason;
	struct packet_counter *counter = bpf_map_lookup_elem(&pod_counters, &key);

	if (counter) {
		counter->packets++;
		counter->bytes += skb->len;
	}
	if (reason == DROP_NONE)
		return TC_ACT_OK;
	tell_drop(skb, packet, reason, to_pod);
	return TC_ACT_SHOT;
}
