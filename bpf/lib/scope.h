/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which addresses are of a link alone. */
#pragma once

#include "bpf/lib/parse.h"

static __always_inline bool is_beyond_link_v4(const struct ipv6_address *address)
{
	const __be32 v4 = address->words[3];

	return (v4 & bpf_htonl(0xf0000000)) != bpf_htonl(0xe0000000) && v4 != bpf_htonl(0xffffffff);
}

static __always_inline bool is_link_local_v6(const struct ipv6_address *address)
{
	return (address->words[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool is_beyond_link_v6(const struct ipv6_address *address)
{
	return !is_multicast_v6(address) && !is_link_local_v6(address);
}
