/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Finding a local pod by its device or by its address. */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/abi/path.h"
#include "bpf/lib/address.h"

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

/* By the low bits of an ifindex, for a lookup that costs no hash; of two devices that share them one is found. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, EP_DEVICES);
	__type(key, __u32);
	__type(value, __u32);
} ep_by_device SEC(".maps");

/* The record that `index` (of a hash, or NULL) leads to, or NULL. The caller compares it with what it looked for. */
static __always_inline const struct endpoint *endpoint_at(const __u32 *index)
{
	return index ? bpf_map_lookup_elem(&endpoints, index) : NULL;
}

static __always_inline const struct endpoint *endpoint_by_ifindex(__u32 ifindex)
{
	const __u32 device = ifindex % EP_DEVICES;
	const struct endpoint *ep = endpoint_at(bpf_map_lookup_elem(&ep_by_device, &device));

	if (ep && ep->ifindex == ifindex)
		return ep;
	ep = endpoint_at(bpf_map_lookup_elem(&ep_by_ifindex, &ifindex));
	return ep && ep->ifindex == ifindex ? ep : NULL;
}

static __always_inline bool has_address(const struct endpoint *ep, const struct ipv6_address *address, bool is_v4)
{
	return ep && ep->ifindex && (is_v4 ? ep->v4 == address->words[3] : same_v6(&ep->v6, address));
}

/*
 * The local pod with the address, or NULL. *cached is what the caller remembers of the address, RECEIVER_… of
 * bpf/abi/path.h, and is left alone unless it was of a local pod, or unknown: then it is one, or unknown, after.
 */
static __always_inline const struct endpoint *endpoint_by_address(const struct ipv6_address *address, __u16 *cached,
								  bool is_v4)
{
	const struct endpoint *ep;
	const __u32 *index;
	__u32 at = *cached;

	if (at >= RECEIVER_NODE)
		return NULL;
	if (at != RECEIVER_UNKNOWN) {
		at--;
		ep = endpoint_at(&at);
		if (has_address(ep, address, is_v4))
			return ep;
	}
	*cached = RECEIVER_UNKNOWN;
	index = is_v4 ? bpf_map_lookup_elem(&ep_by_v4, &address->words[3]) : bpf_map_lookup_elem(&ep_by_v6, address);
	at = index ? *index : MAX_ENDPOINTS;
	ep = endpoint_at(&at);
	if (!has_address(ep, address, is_v4))
		return NULL;
	*cached = at + 1;
	return ep;
}
