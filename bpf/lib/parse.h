/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A packet's headers as one value, the same for both families: `is_v4` is a constant wherever it is passed, so each
 * use is compiled for its family alone. An IPv4 address is the last word of an ipv6_address; its other words are read
 * by nobody. What the headers mean is told in docs/packet-path.md.
 */
#pragma once

#include <linux/icmpv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "bpf/abi/drop.h"
#include "bpf/lib/packet.h"

/* What a transport header says of its connection; a packet counts as the first of those that it is. */
enum signal {
	SIGNAL_NONE,
	SIGNAL_ABORT,   /* TCP RST; SCTP ABORT, SHUTDOWN_COMPLETE */
	SIGNAL_SYN_ACK, /* TCP */
	SIGNAL_START,   /* TCP SYN; SCTP INIT */
	SIGNAL_FIN,     /* TCP */
	SIGNAL_ACK,     /* TCP */
	SIGNAL_COOKIE_ECHO,
	SIGNAL_COOKIE_ACK,
	SIGNAL_SHUTDOWN, /* SCTP SHUTDOWN, SHUTDOWN_ACK */
	SIGNAL_ANSWER,   /* an ICMP reply */
};

enum packet_kind {
	KIND_TRACKED, /* of a connection */
	KIND_UNTRACKED,
	KIND_ERROR, /* an ICMP error, about a connection */
};

enum fragment_kind {
	FRAGMENT_NONE, /* a whole packet */
	FRAGMENT_FIRST,
	FRAGMENT_LATER, /* without a transport header */
};

struct packet {
	struct ipv6_address source;
	struct ipv6_address destination;
	__be16 source_port; /* … these two in the order of a transport header */
	__be16 destination_port;
	__u32 fragment_id; /* as it is in the header; IPv4: 16 bits */
	__u32 end;         /* offset behind the packet, as its header tells */
	__u16 network;     /* offsets in the frame: IP header, … */
	__u16 transport;   /* … transport header */
	__u8 protocol;     /* IPPROTO_*, after extension headers */
	__u8 kind;         /* enum packet_kind */
	__u8 signal;       /* enum signal */
	__u8 fragment;     /* enum fragment_kind */
};

/* The last header begins within this many bytes of the frame's start: a bound for the verifier. */
#define MAX_HEADERS 1024
#define MAX_EXTENSIONS 6

/* IPv6 extension header, but for the fragment's, which is as long (RFC 8200, 4.5). */
struct extension {
	__u8 next;
	__u8 length;
	__be16 fragment; /* offset in 8 bytes << 3 | more to come */
	__be32 id;
};

/* Transport header of SCTP and its first chunk's (RFC 9260, 3). */
struct sctp {
	__be16 source_port;
	__be16 destination_port;
	__be32 tag;
	__le32 checksum;
	__u8 chunk;
	__u8 chunk_flags;
	__be16 chunk_length;
};

/*
 * A pointer that the compiler cannot make anew: the verifier knows the bounds of the one that was compared alone. Nor
 * may it take the bound of the offset, which is above MAX_HEADERS, from another register.
 */
static __always_inline void *at_offset(const struct __sk_buff *skb, __u64 offset)
{
	void *at;

	asm volatile("%0 &= 0x7ff" : "+r"(offset));
	at = packet_start(skb) + offset;
	asm volatile("" : "+r"(at));
	return at;
}

/* `size` readable bytes at `offset`, or NULL: the packet ends before, or headers take too much. Earlier pointers end.
 */
static __always_inline void *header_at(struct __sk_buff *skb, __u32 offset, __u32 size)
{
	void *at;

	if (offset > MAX_HEADERS)
		return NULL;
	at = at_offset(skb, offset);
	if (at + size <= packet_end(skb))
		return at;
	if (bpf_skb_pull_data(skb, offset + size))
		return NULL;
	at = at_offset(skb, offset);
	return at + size <= packet_end(skb) ? at : NULL;
}

static __always_inline enum drop_reason parse_ipv4(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	const struct iphdr *ip = header_at(skb, offset, sizeof(*ip));
	__u16 fragment;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return DROP_MALFORMED;
	fragment = bpf_ntohs(ip->frag_off);
	packet->source.words[3] = ip->saddr;
	packet->destination.words[3] = ip->daddr;
	packet->protocol = ip->protocol;
	packet->fragment_id = ip->id;
	packet->fragment = fragment & 0x1fff ? FRAGMENT_LATER : fragment & 0x2000 ? FRAGMENT_FIRST : FRAGMENT_NONE;
	packet->network = offset;
	packet->end = offset + bpf_ntohs(ip->tot_len);
	packet->transport = offset + ip->ihl * 4;
	return DROP_NONE;
}

static __always_inline bool is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS || next == IPPROTO_MH ||
	       next == IPPROTO_AH || next == IPPROTO_FRAGMENT;
}

static __always_inline enum drop_reason parse_ipv6(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	const struct ipv6hdr *ip6 = header_at(skb, offset, sizeof(*ip6));
	__u32 at = offset + sizeof(*ip6);
	__u8 next;

	if (!ip6 || ip6->version != 6)
		return DROP_MALFORMED;
	packet->source = *(const struct ipv6_address *)&ip6->saddr;
	packet->destination = *(const struct ipv6_address *)&ip6->daddr;
	packet->fragment = FRAGMENT_NONE;
	packet->network = offset;
	packet->end = offset + sizeof(*ip6) + bpf_ntohs(ip6->payload_len);
	next = ip6->nexthdr;
	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		const struct extension *header;

		if (!is_extension(next)) {
			packet->protocol = next;
			packet->transport = at;
			return DROP_NONE;
		}
		header = header_at(skb, at, sizeof(*header));
		if (!header || i == MAX_EXTENSIONS)
			break;
		if (next == IPPROTO_FRAGMENT) {
			const __u16 fragment = bpf_ntohs(header->fragment);

			packet->fragment_id = header->id;
			if (fragment & 0xfff8)
				packet->fragment = FRAGMENT_LATER;
			else if (fragment & 1)
				packet->fragment = FRAGMENT_FIRST;
			at += sizeof(*header);
		} else {
			at += next == IPPROTO_AH ? (header->length + 2) * 4 : (header->length + 1) * 8;
		}
		next = header->next;
		if (packet->fragment == FRAGMENT_LATER) {
			packet->protocol = next;
			packet->transport = at;
			return DROP_NONE;
		}
	}
	return DROP_MALFORMED;
}

static __always_inline enum drop_reason parse_network(struct __sk_buff *skb, __u32 offset, struct packet *packet,
						      bool is_v4)
{
	const enum drop_reason reason = is_v4 ? parse_ipv4(skb, offset, packet) : parse_ipv6(skb, offset, packet);

	/* Protocols without a header that we read would otherwise begin behind the packet. */
	return reason ?: packet->transport > skb->len ? DROP_MALFORMED : DROP_NONE;
}

/* Whether its header begins with two ports. */
static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

static __always_inline enum signal tcp_signal(const struct tcphdr *tcp)
{
	if (tcp->rst)
		return SIGNAL_ABORT;
	if (tcp->syn)
		return tcp->ack ? SIGNAL_SYN_ACK : SIGNAL_START;
	if (tcp->fin)
		return SIGNAL_FIN;
	return tcp->ack ? SIGNAL_ACK : SIGNAL_NONE;
}

static __always_inline enum signal sctp_signal(__u8 chunk)
{
	switch (chunk) {
	case 1: /* INIT */
		return SIGNAL_START;
	case 6:  /* ABORT */
	case 14: /* SHUTDOWN_COMPLETE */
		return SIGNAL_ABORT;
	case 7: /* SHUTDOWN */
	case 8: /* SHUTDOWN_ACK */
		return SIGNAL_SHUTDOWN;
	case 10:
		return SIGNAL_COOKIE_ECHO;
	case 11:
		return SIGNAL_COOKIE_ACK;
	default:
		return SIGNAL_NONE;
	}
}

/* Of ICMP and ICMPv6 alike; queries have an identifier, and errors something else in its place. */
struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id;
	__be16 sequence;
};

/* ICMP types, all below 32 (RFC 792 and 950); <linux/icmp.h> cannot be had without the C library. */
#define ICMP_DEST_UNREACH 3
#define ICMP_PORT_UNREACH 3
#define ICMP_ERRORS (1U << ICMP_DEST_UNREACH | 1U << 4 | 1U << 5 | 1U << 11 | 1U << 12)
#define ICMP_REQUESTS (1U << 8 | 1U << 13 | 1U << 15 | 1U << 17)
#define ICMP_ANSWERS (1U << 0 | 1U << 14 | 1U << 16 | 1U << 18)

struct icmp_meaning {
	bool error;
	bool request;
	bool answer;
};

static __always_inline struct icmp_meaning icmp_meaning(__u8 type, bool is_v4)
{
	const __u32 bit = type < 32 ? 1U << type : 0;

	if (is_v4)
		return (struct icmp_meaning){ bit & ICMP_ERRORS, bit & ICMP_REQUESTS, bit & ICMP_ANSWERS };
	return (struct icmp_meaning){ type < 128, type == ICMPV6_ECHO_REQUEST, type == ICMPV6_ECHO_REPLY };
}

/*
 * Reads the transport header, as far as a packet within an ICMP error has one for sure (8 bytes) where `inner`.
 * Of later fragments there is nothing to read.
 */
static __always_inline enum drop_reason parse_transport(struct __sk_buff *skb, struct packet *packet, bool is_v4,
							bool inner)
{
	packet->kind = KIND_TRACKED;
	packet->signal = SIGNAL_NONE;
	packet->source_port = 0;
	packet->destination_port = 0;
	if (packet->fragment == FRAGMENT_LATER)
		return DROP_NONE;
	if (packet->protocol == IPPROTO_TCP) {
		const struct tcphdr *tcp = header_at(skb, packet->transport, inner ? 8 : sizeof(*tcp));

		if (!tcp)
			return DROP_MALFORMED;
		packet->source_port = tcp->source;
		packet->destination_port = tcp->dest;
		if (!inner)
			packet->signal = tcp_signal(tcp);
	} else if (packet->protocol == IPPROTO_UDP) {
		const struct udphdr *udp = header_at(skb, packet->transport, sizeof(*udp));

		if (!udp)
			return DROP_MALFORMED;
		packet->source_port = udp->source;
		packet->destination_port = udp->dest;
	} else if (packet->protocol == (is_v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		const struct icmp *icmp = header_at(skb, packet->transport, sizeof(*icmp));
		struct icmp_meaning meaning;

		if (!icmp)
			return DROP_MALFORMED;
		meaning = icmp_meaning(icmp->type, is_v4);
		if (meaning.request || meaning.answer) {
			packet->source_port = icmp->id;
			packet->destination_port = icmp->id;
			packet->signal = meaning.answer ? SIGNAL_ANSWER : SIGNAL_NONE;
		} else {
			packet->kind = meaning.error ? KIND_ERROR : KIND_UNTRACKED;
		}
	} else if (packet->protocol == IPPROTO_SCTP) {
		const struct sctp *sctp = header_at(skb, packet->transport, inner ? 8 : sizeof(*sctp));

		if (!sctp)
			return DROP_MALFORMED;
		packet->source_port = sctp->source_port;
		packet->destination_port = sctp->destination_port;
		if (!inner)
			packet->signal = sctp_signal(sctp->chunk);
	}
	return DROP_NONE;
}
