/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Rewriting addresses and ports, with checksums right whoever computes them. A transport checksum that hardware (or
 * nobody, between pods) is to finish covers only the pseudo header: helpers that know how the skb stands correct it by
 * the change of the addresses, and by that of the ports only where it is complete.
 */
#pragma once

#include "bpf/lib/conntrack.h"
#include "bpf/lib/sctp.h"

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* By how much the sum over `words` changes; folded into 32 bits. */
static __always_inline __u32 address_change(const struct ipv6_address *before, const struct ipv6_address *after,
					    bool is_v4)
{
	__u64 sum = (__u64)(__u32)~before->words[3] + after->words[3];

	if (!is_v4)
		for (int i = 0; i < 3; i++)
			sum += (__u64)(__u32)~before->words[i] + after->words[i];
	return (__u32)sum + (__u32)(sum >> 32);
}

static __always_inline __u32 ports_of(__be16 source, __be16 destination)
{
	return (__u32)destination << 16 | source; /* as they lie in memory, first the source */
}

static __always_inline enum drop_reason set_addresses(struct __sk_buff *skb, const struct packet *packet,
						      const struct rewrite *to, __u32 change, bool is_v4)
{
	if (is_v4) {
		struct iphdr *ip = header_at(skb, packet->network, sizeof(*ip));

		if (!ip)
			return DROP_TRANSLATION;
		ip->saddr = to->source.words[3];
		ip->daddr = to->destination.words[3];
		ip->check = ~fold((__u64)(__u16)~ip->check + change);
		return DROP_NONE;
	}
	/* IPv6 has no checksum of its own to balance the change in a checksum over the whole packet. */
	return bpf_skb_store_bytes(skb, packet->network + __builtin_offsetof(struct ipv6hdr, saddr), &to->source,
				   2 * sizeof(struct ipv6_address), BPF_F_RECOMPUTE_CSUM)
		       ? DROP_TRANSLATION
		       : DROP_NONE;
}

/* TCP and UDP. */
static __always_inline enum drop_reason set_ports(struct __sk_buff *skb, const struct packet *packet,
						  const struct rewrite *to, __u32 change)
{
	const __u32 before = ports_of(packet->source_port, packet->destination_port);
	const __u32 after = ports_of(to->source_port, to->destination_port);
	const bool udp = packet->protocol == IPPROTO_UDP;
	const __u32 checksum = packet->transport + (udp ? __builtin_offsetof(struct udphdr, check)
							: __builtin_offsetof(struct tcphdr, check));
	const __u64 flags = udp ? BPF_F_MARK_MANGLED_0 : 0; /* 0 stays 0 */

	if (before != after) {
		__u32 *ports = header_at(skb, packet->transport, sizeof(*ports));

		if (!ports)
			return DROP_TRANSLATION;
		*ports = after;
	}
	if (change && bpf_l4_csum_replace(skb, checksum, 0, change, flags | BPF_F_PSEUDO_HDR))
		return DROP_TRANSLATION;
	return before != after && bpf_l4_csum_replace(skb, checksum, before, after, flags | sizeof(after))
		       ? DROP_TRANSLATION
		       : DROP_NONE;
}

static __always_inline enum drop_reason set_sctp_ports(struct __sk_buff *skb, const struct packet *packet,
						       const struct rewrite *to)
{
	const __u32 before = ports_of(packet->source_port, packet->destination_port);
	const __u32 after = ports_of(to->source_port, to->destination_port);
	struct sctp *sctp;
	__u32 change;

	if (before == after)
		return DROP_NONE;
	/* A first fragment does not tell how long the whole is. */
	if (packet->fragment != FRAGMENT_NONE)
		return DROP_TRANSLATION;
	change = sctp_checksum_change(before ^ after, packet->end - packet->transport);
	sctp = header_at(skb, packet->transport, sizeof(*sctp));
	if (!sctp)
		return DROP_TRANSLATION;
	*(__u32 *)sctp = after;
	sctp->checksum ^= change;
	return DROP_NONE;
}

static __always_inline bool is_icmp(__u8 protocol, bool is_v4)
{
	return protocol == (is_v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/* Of ICMP queries: source and destination port are both the identifier. ICMPv6's checksum covers the addresses. */
static __always_inline enum drop_reason set_identifier(struct __sk_buff *skb, const struct packet *packet,
						       const struct rewrite *to, __u32 change, bool is_v4)
{
	const __u32 checksum = packet->transport + __builtin_offsetof(struct icmp, checksum);

	if (!is_v4 && change && bpf_l4_csum_replace(skb, checksum, 0, change, BPF_F_PSEUDO_HDR))
		return DROP_TRANSLATION;
	if (packet->source_port != to->source_port) {
		struct icmp *icmp = header_at(skb, packet->transport, sizeof(*icmp));

		if (!icmp)
			return DROP_TRANSLATION;
		icmp->id = to->source_port;
		if (bpf_l4_csum_replace(skb, checksum, packet->source_port, to->source_port, sizeof(__be16)))
			return DROP_TRANSLATION;
	}
	return DROP_NONE;
}

/* Protocols without ports have nothing to change; their checksums, where they have any, are not known to us. */
static __always_inline enum drop_reason set_transport(struct __sk_buff *skb, const struct packet *packet,
						      const struct rewrite *to, __u32 change, bool is_v4)
{
	if (packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_UDP)
		return set_ports(skb, packet, to, change);
	if (packet->protocol == IPPROTO_SCTP)
		return set_sctp_ports(skb, packet, to);
	return is_icmp(packet->protocol, is_v4) ? set_identifier(skb, packet, to, change, is_v4) : DROP_NONE;
}

/* Makes the packet what `to` says, in the skb and in `packet`. */
static __always_inline enum drop_reason translate(struct __sk_buff *skb, struct packet *packet,
						  const struct rewrite *to, bool is_v4)
{
	__u64 change = (__u64)address_change(&packet->source, &to->source, is_v4) +
		       address_change(&packet->destination, &to->destination, is_v4);
	enum drop_reason reason;

	change = (__u32)change + (change >> 32);
	reason = set_addresses(skb, packet, to, change, is_v4);
	if (!reason && packet->fragment != FRAGMENT_LATER)
		reason = set_transport(skb, packet, to, change, is_v4);
	packet->source = to->source;
	packet->destination = to->destination;
	packet->source_port = to->source_port;
	packet->destination_port = to->destination_port;
	return reason;
}
