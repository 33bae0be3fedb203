/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What is special about a destination that is no local pod. */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/abi/path.h"
#include "bpf/lib/address.h"

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PATHS);
	__type(key, struct path_key_v4);
	__type(value, struct path);
} paths4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PATHS);
	__type(key, struct path_key_v6);
	__type(value, struct path);
} paths6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_NODE_PATHS);
	__type(key, __u32);
	__type(value, struct node_path);
} node_paths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PATH_CONFIGS);
	__type(key, __u32);
	__type(value, struct path_config);
} path_config SEC(".maps");

/* The configuration in force, or NULL: there is none yet, and pods leave the node by the stack. */
static __always_inline const struct path_config *current_paths(void)
{
	const __u32 zero = 0;
	const struct path_config *first = bpf_map_lookup_elem(&path_config, &zero);
	__u32 current;

	if (!first)
		return NULL;
	current = *(const volatile __u32 *)&first->current;
	return current ? bpf_map_lookup_elem(&path_config, &current) : NULL;
}

static __always_inline bool is_uplink(const struct path_config *config, __u32 ifindex)
{
	for (int i = 0; i < MAX_UPLINKS && config->uplinks[i]; i++)
		if (config->uplinks[i] == ifindex)
			return true;
	return false;
}

static __always_inline const struct path *path_to(const struct ipv6_address *destination, bool is_v4)
{
	if (is_v4) {
		const struct path_key_v4 key = { 32, destination->words[3] };

		return bpf_map_lookup_elem(&paths4, &key);
	}
	const struct path_key_v6 key = { 128, *destination };

	return bpf_map_lookup_elem(&paths6, &key);
}

/* Element `index` if it is a path to the destination, else NULL. */
static __always_inline const struct node_path *node_path_at(__u32 index, const struct ipv6_address *destination,
							    bool is_v4)
{
	const struct node_path *path = bpf_map_lookup_elem(&node_paths, &index);
	__u32 differ = 0;

	if (!path || path->family != (is_v4 ? 4 : 6))
		return NULL;
	for (int i = is_v4 ? 3 : 0; i < 4; i++)
		differ |= (path->network.words[i] ^ destination->words[i]) & path->mask.words[i];
	return differ ? NULL : path;
}

static __always_inline bool is_masqueraded(const struct path_config *config, bool is_v4)
{
	return is_v4 ? config->masquerade_v4 != 0 : !is_zero_v6(&config->masquerade_v6);
}

/* Whether pods speak to the world under the address: a node's own, of which a frontend has one port, not all. */
static __always_inline bool is_masquerade_address(const struct path_config *config, const struct ipv6_address *address,
						  bool is_v4)
{
	return is_masqueraded(config, is_v4) &&
	       (is_v4 ? config->masquerade_v4 == address->words[3] : same_v6(&config->masquerade_v6, address));
}

/* Whether a port (host order) is one of those that masqueraded connections get. */
static __always_inline bool is_masquerade_port(const struct path_config *config, __u16 port)
{
	return port >= config->first_port && port <= config->last_port;
}
