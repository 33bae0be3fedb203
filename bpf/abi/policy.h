/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * NetworkPolicy in the maps (rules: docs/packet-path.md, Policy): an address leads to an identity, a pod's record to
 * the rule set of each direction, and {rule set, identity} to the ports that are allowed. A rule set only allows; what
 * it does not name is denied.
 *
 *   map              type        key, value                                             by default
 *   pol_id4          hash        __be32, struct pol_identity: exact addresses           262,144
 *   pol_id6          hash        struct ipv6_address, struct pol_identity               262,144
 *   pol_cidr4        LPM trie    struct pol_cidr_v4, __u32 identity: exact misses only  65,536
 *   pol_cidr6        LPM trie    struct pol_cidr_v6, __u32 identity                     65,536
 *   pol_rules        array       rule set, struct pol_rules                             16,384
 *   pol_peers        hash        struct pol_peer_key, struct pol_peer                   262,144
 *   pol_generation   array       0, __u32: the highest generation ever given to an endpoint
 *
 * Memory: 4.5 MB for pol_rules and 12 MB of hash buckets at any time; an address 96 bytes (IPv6: 96), a CIDR 64 to 128,
 * a peer 192: full, 25 + 25 + 16 + 50 MB more.
 *
 * An element of a hash may be given to another key under its reader's eyes. So every word that decides carries a check
 * of its key: a word is believed alone, and never beside another one.
 */
#pragma once

#include "bpf/abi/address.h"

/* Sides of a connection: the index in endpoint.rules, endpoint.generation and a connection's `judged`. */
enum policy_direction {
	POLICY_INGRESS = 0, /* of the pod that the connection goes to */
	POLICY_EGRESS = 1,  /* of the pod that it comes from */
};

/* Identities with a meaning of their own; the others are the agent's to give. */
#define POL_WORLD 0    /* no entry and no CIDR names the address */
#define POL_OWN_NODE 1 /* an address of this node */

#define POL_MAX_RULES 16384 /* elements of pol_rules; 0 is no rule set */
#define POL_RANGES 16       /* of any peer, and of each */

/*
 * Ports that are allowed: one word, read and written whole. `mark` is a check of whose it is, POL_RANGE_USED, and the
 * protocol: IPPROTO_*, or 0: every protocol, whatever the ports.
 */
struct pol_range {
	union {
		struct {
			__u16 first; /* host order, both included */
			__u16 last;
			__u32 mark;
		};
		__u64 word;
	};
};
#define POL_RANGE_USED 0x100
#define POL_RANGE_CHECK 0xfffffe00

/* `check` belongs to the address: pol_check_v4() or _v6(). One word, too. */
struct pol_identity {
	union {
		struct {
			__u32 identity;
			__u32 check;
		};
		__u64 word;
	};
};

struct pol_cidr_v4 {
	__u32 prefix;
	__be32 address;
};

struct pol_cidr_v6 {
	__u32 prefix;
	struct ipv6_address address;
};

/*
 * Allowed whoever the peer is. `current` is 0 where there is no such rule set, else a number whose lowest bit tells
 * which half is in force; it grows with each change, and a reader that sees it changed reads again. The other half is
 * written first.
 */
struct pol_rules {
	__u32 current;
	__u32 written; /* the highest value of `current` so far: the agent's */
	struct pol_range any_peer[2][POL_RANGES];
};

struct pol_peer_key {
	__u32 rules;
	__u32 identity;
};

/* Ranges from the first on; the first one that is not used, or is another key's, ends them. */
struct pol_peer {
	struct pol_range ranges[POL_RANGES];
};

static inline __attribute__((always_inline)) __u32 pol_mix(__u32 a, __u32 b)
{
	__u32 mixed = (a ^ 0x9e3779b9) * 0x85ebca6b;

	mixed = (mixed ^ mixed >> 15 ^ b) * 0xc2b2ae35;
	return mixed ^ mixed >> 13;
}

static inline __attribute__((always_inline)) __u32 pol_peer_check(__u32 rules, __u32 identity)
{
	return pol_mix(rules, identity) & POL_RANGE_CHECK;
}

static inline __attribute__((always_inline)) __u32 pol_check_v4(__be32 address)
{
	return pol_mix(address, 4);
}

static inline __attribute__((always_inline)) __u32 pol_check_v6(const struct ipv6_address *address)
{
	return pol_mix(pol_mix(address->words[0], address->words[1]), pol_mix(address->words[2], address->words[3]));
}

FL_ABI_ASSERT(sizeof(struct pol_range) == 8, "layout of struct pol_range is shared and pinned");
FL_ABI_ASSERT(sizeof(struct pol_identity) == 8, "layout of struct pol_identity is shared and pinned");
FL_ABI_ASSERT(sizeof(struct pol_cidr_v4) == 8, "layout of struct pol_cidr_v4 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct pol_cidr_v6) == 20, "layout of struct pol_cidr_v6 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct pol_rules) == 8 + 2 * POL_RANGES * 8, "layout of struct pol_rules is shared and pinned");
FL_ABI_ASSERT(sizeof(struct pol_peer) == POL_RANGES * 8, "layout of struct pol_peer is shared and pinned");
