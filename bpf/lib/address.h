/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Comparing addresses, and IPv4 as a v4-mapped one. */
#pragma once

#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "bpf/abi/address.h"

#define MAPPED_PREFIX __builtin_bswap32(0xffff)

static __always_inline bool same_v6(const struct ipv6_address *a, const struct ipv6_address *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1] && a->words[2] == b->words[2] &&
	       a->words[3] == b->words[3];
}

static __always_inline bool is_zero_v6(const struct ipv6_address *a)
{
	return (a->words[0] | a->words[1] | a->words[2] | a->words[3]) == 0;
}

static __always_inline bool is_mapped_v4(const struct ipv6_address *a)
{
	return a->words[0] == 0 && a->words[1] == 0 && a->words[2] == MAPPED_PREFIX;
}

static __always_inline struct ipv6_address mapped_v4(__be32 address)
{
	return (struct ipv6_address){ { 0, 0, MAPPED_PREFIX, address } };
}
