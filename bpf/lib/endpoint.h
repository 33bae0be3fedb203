/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Finding a local pod by its device or by its address. */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/abi/endpoint.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_ENDPOINTS);
	__type(key, __u32);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ENDPOINTS);
	__type(key, __u32);
	__type(value, __u32);
} ep_by_ifindex SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ENDPOINTS);
	__type(key, __be32);
	__type(value, __u32);
} ep_by_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ENDPOINTS);
	__type(key, struct ipv6_address);
	__type(value, __u32);
} ep_by_v6 SEC(".maps");

static __always_inline bool same_v6(const struct ipv6_address *a, const struct ipv6_address *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1] && a->words[2] == b->words[2] &&
	       a->words[3] == b->words[3];
}

static __always_inline bool is_zero_v6(const struct ipv6_address *a)
{
	return (a->words[0] | a->words[1] | a->words[2] | a->words[3]) == 0;
}

/* The record that `index` (of a hash, or NULL) leads to, or NULL. The caller compares it with what it looked for. */
static __always_inline const struct endpoint *endpoint_at(const __u32 *index)
{
	return index ? bpf_map_lookup_elem(&endpoints, index) : NULL;
}

static __always_inline const struct endpoint *endpoint_by_ifindex(__u32 ifindex)
{
	const struct endpoint *ep = endpoint_at(bpf_map_lookup_elem(&ep_by_ifindex, &ifindex));

	return ep && ep->ifindex == ifindex ? ep : NULL;
}

static __always_inline const struct endpoint *endpoint_by_v4(__be32 address)
{
	const struct endpoint *ep = endpoint_at(bpf_map_lookup_elem(&ep_by_v4, &address));

	return ep && ep->ifindex && ep->v4 == address ? ep : NULL;
}

static __always_inline const struct endpoint *endpoint_by_v6(const struct ipv6_address *address)
{
	const struct endpoint *ep = endpoint_at(bpf_map_lookup_elem(&ep_by_v6, address));

	return ep && ep->ifindex && same_v6(&ep->v6, address) ? ep : NULL;
}
