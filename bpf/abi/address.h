/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Addresses as map keys and in records: network order. */
#pragma once

#include <linux/types.h>

/* Both compilers check the layout. */
#ifdef __cplusplus
#define FL_ABI_ASSERT static_assert
#else
#define FL_ABI_ASSERT _Static_assert
#endif

struct ipv6_address {
	__u32 words[4];
};
