/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A pod's end of the pod network. The record is an element of array `endpoints`; the hashes (by ifindex, by address)
 * only give its index. A hash value may change under a reader's eyes, and an index may be reused: a reader compares
 * what it looked for with the record, and a mismatch is absence.
 */
#pragma once

#include "bpf/abi/address.h"

#define MAX_ENDPOINTS 4096
#define EP_DEVICES 65536 /* elements of array ep_by_device: [ifindex % EP_DEVICES] is an index in `endpoints` */

enum endpoint_flags {
	EP_SHAPED = 1, /* what reaches the pod takes the host side's egress, where a qdisc shapes it */
};

struct endpoint {
	__u32 ifindex;      /* host-side device; 0: the element is free */
	__u32 flags;        /* enum endpoint_flags */
	__u64 netns_cookie; /* of the pod's network namespace */
	__u8 mac[6];        /* pod side … */
	__u8 host_mac[6];   /* … and host side: in this order the start of a frame to the pod */
	__be32 v4;          /* 0: the pod has no address of this family */
	struct ipv6_address v6;
	struct ipv6_address link_local; /* fe80::, made from `mac` */
	/*
	 * [enum policy_direction]. A rule set of pol_rules, 0: not isolated, and the generation of what it says: a
	 * verdict holds for the generation under which it was found. No two endpoints ever have the same one; rules
	 * are written first, then their generation, which is read first.
	 */
	__u32 rules[2];
	__u32 generation[2];
	__u32 reserved[10];
};

FL_ABI_ASSERT(sizeof(struct endpoint) == 120, "layout of struct endpoint is shared and pinned");
