/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a program knows of its packet. */
#pragma once

#include "bpf/lib/balance.h"
#include "bpf/lib/icmp_error.h"
#include "bpf/lib/route.h"

/* Off the stack, which is small. Programs do not interrupt each other on a processor. */
struct scratch {
	struct packet packet;
	struct flow flow;
	struct route route;
	struct error_work error;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} tmp_scratch SEC(".maps");

static __always_inline struct scratch *clean_scratch(void)
{
	const __u32 zero = 0;
	struct scratch *scratch = bpf_map_lookup_elem(&tmp_scratch, &zero);

	if (scratch)
		__builtin_memset(scratch, 0, __builtin_offsetof(struct scratch, error));
	return scratch;
}
