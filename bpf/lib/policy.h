/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whether rules allow a peer: docs/packet-path.md, Policy. The maps' layout is told in bpf/abi/policy.h. What is not
 * sure is denied: a rule set that is none, an element that changes each time it is read.
 */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/abi/policy.h"
#include "bpf/lib/service.h"

/* Their sizes are set by the agent before the load. */
#define POL_MAP(map_type, name, key_type, value_type) \
	struct {                                      \
		__uint(type, map_type);               \
		__uint(map_flags, BPF_F_NO_PREALLOC); \
		__uint(max_entries, 1);               \
		__type(key, key_type);                \
		__type(value, value_type);            \
	} name SEC(".maps")

POL_MAP(BPF_MAP_TYPE_HASH, pol_id4, __be32, struct pol_identity);
POL_MAP(BPF_MAP_TYPE_HASH, pol_id6, struct ipv6_address, struct pol_identity);
POL_MAP(BPF_MAP_TYPE_LPM_TRIE, pol_cidr4, struct pol_cidr_v4, __u32);
POL_MAP(BPF_MAP_TYPE_LPM_TRIE, pol_cidr6, struct pol_cidr_v6, __u32);
POL_MAP(BPF_MAP_TYPE_HASH, pol_peers, struct pol_peer_key, struct pol_peer);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, POL_MAX_RULES);
	__type(key, __u32);
	__type(value, struct pol_rules);
} pol_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} pol_generation SEC(".maps");

/* Of an address whose element changes each time it is read: no rule names it. */
#define POL_UNSURE 0xffffffff

static __always_inline bool is_allowed(const struct pol_range *ranges, __u32 check, __u32 protocol, __u32 port)
{
	for (int i = 0; i < POL_RANGES; i++) {
		const struct pol_range range = { .word = READ_ONCE(ranges[i].word) };
		const __u32 of = range.mark & 0xff;

		if ((range.mark & ~0xffU) != (check | POL_RANGE_USED))
			return false;
		if (!of || (of == protocol && range.first <= port && port <= range.last))
			return true;
	}
	return false;
}

/* A node's address says nothing of who sends from it: what the node itself sends is known otherwise. */
static __always_inline bool has_meaning(__u32 identity, __u32 direction)
{
	return identity != POL_OWN_NODE || direction == POLICY_EGRESS;
}

static __always_inline __u32 identity_of(const struct ipv6_address *peer, __u32 direction, bool is_v4)
{
	const __u32 check = is_v4 ? pol_check_v4(peer->words[3]) : pol_check_v6(peer);
	const struct ipv6_address address = *peer; /* on the stack: 6.1 wants a key to be there, or in a map */
	const struct pol_identity *exact;
	struct pol_identity found = {};
	const __u32 *covering;

	for (int i = 0; i < 2; i++) {
		exact = is_v4 ? bpf_map_lookup_elem(&pol_id4, &address.words[3])
			      : bpf_map_lookup_elem(&pol_id6, &address);
		if (!exact)
			break;
		found.word = READ_ONCE(exact->word);
		if (found.check == check)
			break;
	}
	if (exact && found.check != check)
		return POL_UNSURE;
	if (exact && has_meaning(found.identity, direction))
		return found.identity;
	if (is_v4) {
		const struct pol_cidr_v4 key = { 32, peer->words[3] };

		covering = bpf_map_lookup_elem(&pol_cidr4, &key);
	} else {
		const struct pol_cidr_v6 key = { 128, *peer };

		covering = bpf_map_lookup_elem(&pol_cidr6, &key);
	}
	return covering ? READ_ONCE(*covering) : POL_WORLD;
}

static __always_inline bool allows_peer(__u32 rules, __u32 direction, const struct ipv6_address *peer, __u32 protocol,
					__u32 port, bool is_v4)
{
	const struct pol_peer_key key = { rules, identity_of(peer, direction, is_v4) };
	const struct pol_peer *allowed;

	if (direction == POLICY_EGRESS && key.identity == POL_OWN_NODE)
		return true;
	allowed = bpf_map_lookup_elem(&pol_peers, &key);
	return allowed && is_allowed(allowed->ranges, pol_peer_check(rules, key.identity), protocol, port);
}

static __always_inline bool judge(__u32 rules, __u32 direction, const struct ipv6_address *peer, __u32 protocol,
				  __u32 port, bool is_v4)
{
	const struct pol_rules *set = rules ? bpf_map_lookup_elem(&pol_rules, &rules) : NULL;

	if (!set)
		return false;
	for (int i = 0; i < 2; i++) {
		const __u32 current = READ_ONCE(set->current);
		bool allowed;

		if (!current)
			return false;
		allowed = is_allowed(set->any_peer[current & 1], 0, protocol, port) ||
			  allows_peer(rules, direction, peer, protocol, port, is_v4);
		if (READ_ONCE(set->current) == current)
			return allowed;
	}
	return false;
}

/*
 * Whether rule set `rules` allows what goes to, or comes from, `peer` (whose port is not looked at) on the server's
 * port, which is in host order. Functions of their own to the verifier, which looks at each once.
 */
__noinline int judge_v4(__u32 rules, __u32 direction, const struct ipv6_address *peer, __u32 protocol, __u32 port)
{
	return peer && judge(rules, direction, peer, protocol, port, true);
}

__noinline int judge_v6(__u32 rules, __u32 direction, const struct ipv6_address *peer, __u32 protocol, __u32 port)
{
	return peer && judge(rules, direction, peer, protocol, port, false);
}
