/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What ring buffer `events` carries. */
#pragma once

#include "bpf/abi/address.h"

enum event_kind {
	EVENT_DROP = 1,
};

/*
 * Packets dropped or rejected at one device for one reason. The first is told at once, with its tuple; those of the
 * same kind that follow within EVENT_INTERVAL_NS are only counted (by each processor for itself), and told with the
 * next one after it.
 */
struct drop_event {
	__u32 kind;                 /* EVENT_DROP */
	__u32 reason;               /* enum drop_reason */
	__u64 time_ns;              /* CLOCK_MONOTONIC */
	__u32 ifindex;              /* whose program dropped it: a pod's host side, an uplink, VXLAN */
	__u32 packets;              /* so many, this one included, since the last event of the kind */
	struct ipv6_address source; /* as the packet came; IPv4 as v4-mapped IPv6; zero where headers were not read */
	struct ipv6_address destination;
	__be16 source_port; /* of ICMP queries both ports are the identifier */
	__be16 destination_port;
	__u8 protocol;  /* IPPROTO_* */
	__u8 to_pod;    /* 1: on its way to the pod, 0: from it */
	__u16 length;   /* of the frame, 65535 where it is longer */
	__u32 isolated; /* host-side device of the pod whose policy denied it, where the reason is one of policy's */
	__u32 pad;
};

#define EVENT_INTERVAL_NS 100000000ULL
#define EVENT_RING_BYTES (256 * 1024)

FL_ABI_ASSERT(sizeof(struct drop_event) == 72, "layout of struct drop_event is shared with its readers");
