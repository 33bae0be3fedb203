/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Headers of a packet in an skb. */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/abi/address.h"

/* ARP for IPv4 over Ethernet (RFC 826), as it follows the Ethernet header. */
struct arp_ipv4 {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_size;
	__u8 protocol_size;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed));

/*
 * The packet's bounds. In assembly, because a compiler that knows the fields to be 32 bits wide copies them by 32-bit
 * moves, and the verifier then no longer sees a packet pointer.
 */
static __always_inline void *packet_start(const struct __sk_buff *skb)
{
	void *start;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(start)
		     : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, data)));
	return start;
}

static __always_inline void *packet_end(const struct __sk_buff *skb)
{
	void *end;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(end)
		     : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, data_end)));
	return end;
}

/* The Ethernet header followed by at least `size` readable bytes, or NULL: the packet is shorter. */
static __always_inline struct ethhdr *frame_with(struct __sk_buff *skb, __u32 size)
{
	const __u32 need = sizeof(struct ethhdr) + size;

	void *start = packet_start(skb);

	if (start + need > packet_end(skb)) {
		if (bpf_skb_pull_data(skb, need))
			return NULL;
		start = packet_start(skb);
		if (start + need > packet_end(skb))
			return NULL;
	}
	return start;
}

static __always_inline struct iphdr *ipv4_of(struct __sk_buff *skb)
{
	struct ethhdr *eth = frame_with(skb, sizeof(struct iphdr));
	struct iphdr *ip = (void *)(eth + 1);

	return eth && ip->version == 4 && ip->ihl >= 5 ? ip : NULL;
}

static __always_inline struct ipv6hdr *ipv6_of(struct __sk_buff *skb)
{
	struct ethhdr *eth = frame_with(skb, sizeof(struct ipv6hdr));
	struct ipv6hdr *ip6 = (void *)(eth + 1);

	return eth && ip6->version == 6 ? ip6 : NULL;
}

static __always_inline struct arp_ipv4 *arp_of(struct __sk_buff *skb)
{
	struct ethhdr *eth = frame_with(skb, sizeof(struct arp_ipv4));
	struct arp_ipv4 *arp = (void *)(eth + 1);

	return eth && arp->protocol == bpf_htons(ETH_P_IP) && arp->hardware_size == ETH_ALEN &&
			       arp->protocol_size == sizeof(__be32)
		       ? arp
		       : NULL;
}

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3] && a[4] == b[4] && a[5] == b[5];
}

static __always_inline bool is_multicast_v6(const struct ipv6_address *address)
{
	return *(const __u8 *)address == 0xff;
}

/* What a router does to a packet that it passes on. The caller has seen that more than one hop is left. */
static __always_inline void spend_hop_v4(struct iphdr *ip)
{
	__u32 check = ip->check;

	check += bpf_htons(0x0100);
	ip->check = (__u16)(check + (check >= 0xffff));
	ip->ttl--;
}
