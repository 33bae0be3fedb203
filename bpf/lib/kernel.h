/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel's own structs, as far as iterators read them: fields are found by name when the object is loaded (CO-RE),
 * so that UAPI headers suffice for the rest.
 */
#pragma once

#include <linux/in.h>
#include <linux/in6.h>
#include <linux/types.h>

#define KERNEL_STRUCT __attribute__((preserve_access_index))

struct net {
	__u64 net_cookie;
} KERNEL_STRUCT;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num; /* source port, host order */
	unsigned short skc_family;
	volatile unsigned char skc_state;
	int skc_bound_dev_if;
	struct {
		struct net *net;
	} KERNEL_STRUCT skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} KERNEL_STRUCT;

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
} KERNEL_STRUCT;

struct bpf_iter_meta {
	struct seq_file *seq;
} KERNEL_STRUCT;

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
} KERNEL_STRUCT;
