/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What connected sockets remember: array sk_memory, an element for each socket that is connected through a Service, one
 * cache line each. A socket's home is the element that the low bits of its cookie name, so those of sockets that are
 * made one after another lie beside each other; where that is another socket's, it is in one of SOCKET_MEMORY_PLACES
 * others.
 */
#pragma once

#include "bpf/abi/address.h"

struct socket_memory {
	__u64 cookie;    /* the socket's; 0: free */
	__u32 netns;     /* the low half of its network namespace's cookie */
	__u32 displaced; /* elements whose home this is, and that are elsewhere; not of the element itself */
	struct ipv6_address service;
	struct ipv6_address backend;
	__be16 service_port;
	__be16 backend_port;
	__u32 backend_index;
	__u32 generation; /* the backend's */
	__u32 protocol;   /* IPPROTO_*, stored last; 0: what is above changes at this moment */
};

/* In a cookie: the agent found no such socket. Its hooks find the element no more; the agent frees it later. */
#define SOCKET_MEMORY_LOST (1ULL << 63)
#define SOCKET_MEMORY_PLACES 64

FL_ABI_ASSERT(sizeof(struct socket_memory) == 64, "layout of struct socket_memory is shared and pinned");
