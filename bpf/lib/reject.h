/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers in place of a Service: the packet becomes a TCP reset or an ICMP port unreachable to its own sender. Not
 * inline: each is verified for itself, and rare.
 */
#pragma once

#include "bpf/lib/translate.h"

#define ANSWER_TTL 64
#define MAX_QUOTED_OPTIONS 64

/* A frame from the packet's destination back to its source, up to the transport header. */
static __always_inline void turn_ethernet(struct ethhdr *eth)
{
	struct ethhdr before = *eth;

	__builtin_memcpy(eth->h_dest, before.h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, before.h_dest, ETH_ALEN);
}

/* The sum over a pseudo header without its addresses, which a packet and its answer share. */
static __always_inline __u64 sum_addresses(const struct packet *packet, bool is_v4)
{
	__u64 sum = (__u64)packet->source.words[3] + packet->destination.words[3];

	if (!is_v4)
		for (int i = 0; i < 3; i++)
			sum += (__u64)packet->source.words[i] + packet->destination.words[i];
	return sum;
}

/* Writes the answer's IP header, and turns the Ethernet header; false where the frame has no room for them. */
static __always_inline bool write_headers(struct __sk_buff *skb, const struct packet *packet, __u8 protocol,
					  __u16 payload, bool is_v4)
{
	const __u32 size = is_v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct ethhdr *eth = frame_with(skb, size);

	if (!eth)
		return false;
	turn_ethernet(eth);
	if (is_v4) {
		struct iphdr *ip = (void *)(eth + 1);
		const struct iphdr header = { .version = 4,
					      .ihl = 5,
					      .tot_len = bpf_htons(sizeof(*ip) + payload),
					      .frag_off = bpf_htons(0x4000),
					      .ttl = ANSWER_TTL,
					      .protocol = protocol,
					      .saddr = packet->destination.words[3],
					      .daddr = packet->source.words[3] };
		const __u16 *words = (const void *)&header;
		__u64 sum = 0;

		for (unsigned int i = 0; i < sizeof(header) / 2; i++)
			sum += words[i];
		*ip = header;
		ip->check = ~fold(sum);
	} else {
		struct ipv6hdr *ip6 = (void *)(eth + 1);
		const struct ipv6hdr header = {
			.version = 6, .payload_len = bpf_htons(payload), .nexthdr = protocol, .hop_limit = ANSWER_TTL
		};

		*ip6 = header;
		*(struct ipv6_address *)&ip6->saddr = packet->destination;
		*(struct ipv6_address *)&ip6->daddr = packet->source;
	}
	return true;
}

/* TCP header without options of an answer: RFC 9293, 3.10.7.1. */
static __always_inline int reset_tcp(struct __sk_buff *skb, const struct packet *packet, bool is_v4)
{
	const __u32 network = is_v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	const __u32 size = sizeof(struct ethhdr) + network + sizeof(struct tcphdr);
	const struct tcphdr *tcp = header_at(skb, packet->transport, sizeof(*tcp));
	struct tcphdr reset = { .source = packet->destination_port, .dest = packet->source_port, .doff = 5, .rst = 1 };
	const __u16 *words = (const void *)&reset;
	__s32 length;
	__u64 sum;

	if (!tcp || tcp->rst)
		return 0;
	length = packet->end - packet->transport - tcp->doff * 4;
	if (length < 0) /* the header says that it ends behind the packet */
		length = 0;
	if (tcp->ack) {
		reset.seq = tcp->ack_seq;
	} else {
		reset.ack = 1;
		reset.ack_seq = bpf_htonl(bpf_ntohl(tcp->seq) + length + tcp->syn + tcp->fin);
	}
	sum = sum_addresses(packet, is_v4) + bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(reset));
	for (unsigned int i = 0; i < sizeof(reset) / 2; i++)
		sum += words[i];
	reset.check = ~fold(sum);
	if (bpf_skb_change_tail(skb, size, 0) || !write_headers(skb, packet, IPPROTO_TCP, sizeof(reset), is_v4))
		return 0;
	return !bpf_skb_store_bytes(skb, sizeof(struct ethhdr) + network, &reset, sizeof(reset), 0);
}

static __always_inline int answer_unreachable(struct __sk_buff *skb, const struct packet *packet, bool is_v4)
{
	const __u32 network = is_v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	const __u32 start = sizeof(struct ethhdr) + network;
	const __u32 options = packet->transport - start;
	const __u8 protocol = is_v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	struct icmp header = { .type = is_v4 ? ICMP_DEST_UNREACH : ICMPV6_DEST_UNREACH,
			       .code = is_v4 ? ICMP_PORT_UNREACH : ICMPV6_PORT_UNREACH };
	__u8 quote[sizeof(struct ipv6hdr) + MAX_QUOTED_OPTIONS + 8];
	__u32 size = network + options + 8;
	__s64 sum;

	if (packet->fragment == FRAGMENT_LATER || options > MAX_QUOTED_OPTIONS)
		return 0;
	if (size < 28)
		return 0;
	asm volatile("" : "+r"(size)); /* else both bounds become one comparison, of something that is not `size` */
	if (size > sizeof(quote))
		return 0;
	if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr), quote, size))
		return 0;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)quote, size & ~3U, 0);
	if (sum < 0)
		return 0;
	sum += *(const __u16 *)&header;
	if (!is_v4)
		sum += sum_addresses(packet, is_v4) + bpf_htons(protocol) + bpf_htons(sizeof(header) + size);
	header.checksum = ~fold(sum);
	if (bpf_skb_change_tail(skb, start + sizeof(header) + size, 0) ||
	    !write_headers(skb, packet, protocol, sizeof(header) + size, is_v4) ||
	    bpf_skb_store_bytes(skb, start, &header, sizeof(header), 0))
		return 0;
	return !bpf_skb_store_bytes(skb, start + sizeof(header), quote, size, 0);
}

__noinline int reject_v4(struct __sk_buff *skb, const struct packet *packet)
{
	if (!packet)
		return 0;
	return packet->protocol == IPPROTO_TCP ? reset_tcp(skb, packet, true) : answer_unreachable(skb, packet, true);
}

__noinline int reject_v6(struct __sk_buff *skb, const struct packet *packet)
{
	if (!packet)
		return 0;
	return packet->protocol == IPPROTO_TCP ? reset_tcp(skb, packet, false) : answer_unreachable(skb, packet, false);
}

/* Turns the packet into its answer; false: it gets none. */
static __always_inline bool reject(struct __sk_buff *skb, const struct packet *packet, bool is_v4)
{
	return is_v4 ? reject_v4(skb, packet) : reject_v6(skb, packet);
}
