/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP errors: each is about a connection, which the packet within tells, and is translated as that is: within, and
 * where it goes. It moves nothing and begins nothing.
 */
#pragma once

#include "bpf/lib/fragment.h"
#include "bpf/lib/translate.h"

/* Replaces `size` bytes at `offset`, a multiple of 4, and adds their change to a checksum's sum. */
static __always_inline bool replace(struct __sk_buff *skb, __u32 offset, void *before, void *after, __u32 size,
				    __s64 *sum)
{
	*sum = bpf_csum_diff(before, size, after, size, *sum);
	return *sum >= 0 && !bpf_skb_store_bytes(skb, offset, after, size, BPF_F_RECOMPUTE_CSUM);
}

/* A 16-bit checksum in the four bytes at `offset` (its second half where `high`), corrected by `change`. */
static __always_inline bool correct(struct __sk_buff *skb, __u32 offset, bool high, __u32 change, bool udp, __s64 *sum)
{
	__u16 before[2], after[2];

	if (bpf_skb_load_bytes(skb, offset, before, sizeof(before)))
		return true; /* the packet within is cut before it */
	after[0] = before[0];
	after[1] = before[1];
	if (udp && !before[high])
		return true;
	after[high] = ~fold((__u64)(__u16)~before[high] + change);
	if (udp && !after[high])
		after[high] = 0xffff;
	return replace(skb, offset, before, after, sizeof(after), sum);
}

/* The identifier of an ICMP query within, and its checksum, which `change` of the addresses is part of. */
static __always_inline bool translate_inner_query(struct __sk_buff *skb, const struct packet *inner,
						  const struct rewrite *to, __u32 change, __s64 *sum)
{
	const __u32 at = inner->transport + __builtin_offsetof(struct icmp, id);
	const __u64 total = (__u64)change + (__u16)~inner->source_port + to->source_port;
	__be16 before[2], after[2];

	if (bpf_skb_load_bytes(skb, at, before, sizeof(before)))
		return false;
	after[0] = to->source_port;
	after[1] = before[1];
	return replace(skb, at, before, after, sizeof(after), sum) &&
	       correct(skb, inner->transport, true, (__u32)total + (total >> 32), false, sum);
}

/* Makes the packet within what `to` says; *sum is by how much that changes the ICMP checksum. */
static __always_inline bool translate_inner(struct __sk_buff *skb, struct packet *inner, struct rewrite *to, __s64 *sum,
					    bool is_v4)
{
	__u32 before = ports_of(inner->source_port, inner->destination_port);
	__u32 after = ports_of(to->source_port, to->destination_port);
	__u64 change = (__u64)address_change(&inner->source, &to->source, is_v4) +
		       address_change(&inner->destination, &to->destination, is_v4);

	if (is_v4) {
		__be32 old[2] = { inner->source.words[3], inner->destination.words[3] };
		__be32 new[2] = { to->source.words[3], to->destination.words[3] };

		if (!replace(skb, inner->network + __builtin_offsetof(struct iphdr, saddr), old, new, sizeof(new),
			     sum) ||
		    !correct(skb, inner->network + __builtin_offsetof(struct iphdr, ttl), true,
			     (__u32)change + (change >> 32), false, sum))
			return false;
	} else {
		if (!replace(skb, inner->network + __builtin_offsetof(struct ipv6hdr, saddr), &inner->source,
			     &to->source, 2 * sizeof(struct ipv6_address), sum))
			return false;
	}
	if (is_icmp(inner->protocol, is_v4))
		return translate_inner_query(skb, inner, to, is_v4 ? 0 : (__u32)change + (change >> 32), sum);
	if (!has_ports(inner->protocol))
		return true;
	if (!replace(skb, inner->transport, &before, &after, sizeof(after), sum))
		return false;
	change = (__u64)(__u32)change + (change >> 32) + (__u32)~before + after;
	change = (__u32)change + (change >> 32);
	if (inner->protocol == IPPROTO_UDP)
		return correct(skb, inner->transport + 4, true, change, true, sum);
	return inner->protocol != IPPROTO_TCP || correct(skb, inner->transport + 16, false, change, false, sum);
}

/* What the translation of an error works on: too much for the stack. */
struct error_work {
	struct packet inner;
	struct rewrite within; /* what `inner` becomes … */
	struct rewrite outer;  /* … and the error's own addresses */
};

/* The packet that the error names becomes what its receiver sent; the error's own addresses follow. */
static __always_inline enum drop_reason translate_error(struct __sk_buff *skb, struct packet *packet,
							struct error_work *work, const struct connection *of,
							bool is_v4)
{
	const __u32 at = packet->transport + __builtin_offsetof(struct icmp, checksum);
	struct rewrite *within = &work->within, *outer = &work->outer;
	__s64 sum = 0;
	bool is_other_end;
	__u16 checksum;
	__u64 change;

	if (of->form == FORM_ORIGINAL_DONE) {
		to_server(of->head, within, is_v4);
		to_client(of->head, outer, is_v4);
	} else {
		to_client(of->head, within, is_v4);
		to_server(of->head, outer, is_v4);
	}
	is_other_end = same_end(&packet->source, &within->destination, is_v4);
	/* What the receiver sent goes the other way than what the receiver gets. */
	within->source = outer->destination;
	within->source_port = outer->destination_port;
	within->destination = outer->source;
	within->destination_port = outer->source_port;
	/* A router on the way stays itself; the other end is known by another address. */
	if (!is_other_end)
		outer->source = packet->source;
	if (!translate_inner(skb, &work->inner, within, &sum, is_v4))
		return DROP_TRANSLATION;
	change = (__u64)address_change(&packet->source, &outer->source, is_v4) +
		 address_change(&packet->destination, &outer->destination, is_v4);
	change = (__u32)change + (change >> 32);
	if (set_addresses(skb, packet, outer, change, is_v4) ||
	    bpf_skb_load_bytes(skb, at, &checksum, sizeof(checksum)))
		return DROP_TRANSLATION;
	checksum = ~fold((__u64)(__u16)~checksum + (__u32)sum + (is_v4 ? 0 : change));
	packet->source = outer->source;
	packet->destination = outer->destination;
	return bpf_skb_store_bytes(skb, at, &checksum, sizeof(checksum), BPF_F_RECOMPUTE_CSUM) ? DROP_TRANSLATION
											       : DROP_NONE;
}

static __always_inline enum drop_reason relate(struct __sk_buff *skb, struct packet *packet, struct error_work *work,
					       bool is_v4)
{
	struct packet *inner = &work->inner;
	struct connection of = {};

	inner->fragment_id = 0;
	if (parse_network(skb, packet->transport + sizeof(struct icmp), inner, is_v4) ||
	    inner->fragment == FRAGMENT_LATER || parse_transport(skb, inner, is_v4, true) ||
	    inner->kind != KIND_TRACKED || !same_end(&inner->source, &packet->destination, is_v4))
		return DROP_ICMP_ERROR;
	find_connection(&of, inner, true, is_v4);
	if (of.form == FORM_BUSY)
		return DROP_CT_RACE;
	if (of.form == FORM_NONE || of.form == FORM_FOREIGN)
		return DROP_ICMP_ERROR;
	if (of.form != FORM_ORIGINAL_DONE && of.form != FORM_REPLY_DONE)
		return DROP_NONE;
	return translate_error(skb, packet, work, &of, is_v4);
}

/* Functions of their own to the verifier, which looks at each once. */
__noinline int relate_v4(struct __sk_buff *skb, struct packet *packet, struct error_work *work)
{
	return packet && work ? relate(skb, packet, work, true) : DROP_ICMP_ERROR;
}

__noinline int relate_v6(struct __sk_buff *skb, struct packet *packet, struct error_work *work)
{
	return packet && work ? relate(skb, packet, work, false) : DROP_ICMP_ERROR;
}

/* Judges an ICMP error, and translates it. */
static __always_inline enum drop_reason relate_error(struct __sk_buff *skb, struct packet *packet,
						     struct error_work *work, bool is_v4)
{
	return is_v4 ? relate_v4(skb, packet, work) : relate_v6(skb, packet, work);
}
