/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What iterator dead_sockets says of each socket that was connected to a backend which is one no more. */
#pragma once

#include "bpf/abi/address.h"

/* As the kernel names a socket: IPv4 in the first word of an address, IPv4 in IPv6 as v4-mapped. */
struct dead_socket {
	__u64 netns_cookie;
	__u64 cookie; /* the socket's */
	struct ipv6_address source;
	struct ipv6_address peer;
	__be16 source_port;
	__be16 peer_port;
	__u32 device; /* that the socket is bound to; 0: to none */
	__u16 family; /* AF_INET or AF_INET6 */
	__u16 protocol;
	__u32 reserved;
};

FL_ABI_ASSERT(sizeof(struct dead_socket) == 64, "layout of struct dead_socket is shared");
