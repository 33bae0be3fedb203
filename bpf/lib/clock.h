/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Time as connections and fragments measure it: the low 32 bits of jiffies, which cost a nanosecond. */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/abi/conntrack.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ct_config);
} ct_config SEC(".maps");

static __always_inline __u32 jiffies32(void)
{
	return bpf_jiffies64();
}

static __always_inline __u32 jiffies_per_second(void)
{
	const __u32 zero = 0;
	const struct ct_config *config = bpf_map_lookup_elem(&ct_config, &zero);

	return config ? config->hz : 0;
}

/* How long a connection lives on after a packet that left it in `state`. */
static __always_inline __u32 timeout_of(__u32 state)
{
	const __u32 zero = 0;
	const struct ct_config *config = bpf_map_lookup_elem(&ct_config, &zero);

	asm volatile("" : "+r"(state)); /* so that what is compared is what is used */
	return config && state < sizeof(config->timeouts) / sizeof(config->timeouts[0]) ? config->timeouts[state] : 0;
}

static __always_inline bool is_past(__u32 deadline, __u32 now)
{
	return (__s32)(now - deadline) > 0;
}
