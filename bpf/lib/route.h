/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Where a packet goes on: to a local pod, to another node, to the world, or to the host stack. */
#pragma once

#include <linux/errno.h>
#include <linux/pkt_cls.h>

#include "bpf/lib/packet.h"
#include "bpf/lib/to_pod.h"
#include "bpf/lib/tunnel.h"

/* Of <sys/socket.h>, which is the C library's. */
#define AF_INET 2
#define AF_INET6 10

/*
 * Mark of a packet that a program has judged and sent on to a device's egress, where another one would judge it again:
 * that one takes the mark off and lets it pass. No pod can set it: a packet loses its mark between network namespaces.
 */
#define MARK_JUDGED 0xfa1e1ead

enum route_kind {
	ROUTE_STACK = 0,
	ROUTE_POD,    /* past the host side's egress */
	ROUTE_EGRESS, /* to a device's egress: of a pod that is shaped; back to where it came from */
	ROUTE_TUNNEL,
	ROUTE_NEIGHBOUR, /* by an uplink */
};

struct route {
	struct ipv6_address destination; /* to be found a way to */
	__u32 ifindex;                   /* of all kinds but the stack */
	union {
		struct ipv6_address node;        /* ROUTE_TUNNEL: as v4-mapped where it is IPv4 */
		struct bpf_redir_neigh next_hop; /* ROUTE_NEIGHBOUR */
	};
	__u16 hint;      /* what is remembered of the destination: RECEIVER_… */
	__u8 kind;       /* enum route_kind */
	__u8 known;      /* the way to `destination` has been looked for */
	__u8 outside;    /* the way leads out of the cluster, by an uplink */
	__u8 unresolved; /* only the neighbour's MAC is missing: the stack asks for it, but next_hop says who it is */
	__u8 back;       /* dropped, and turned into an answer to its sender */
	__u8 pad;
};

/* In assembly: a compiler may store through a pointer to the field, which the verifier refuses. */
static __always_inline void set_mark(struct __sk_buff *skb, __u32 mark)
{
	asm volatile("*(u32 *)(%0 + %1) = %2"
		     :
		     : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, mark)), "r"(mark)
		     : "memory");
}

static __always_inline bool was_judged(struct __sk_buff *skb)
{
	if (skb->mark != MARK_JUDGED)
		return false;
	set_mark(skb, 0);
	return true;
}

/* The program's answer for a packet that goes on as `route` says; `stack` where that is to the host stack. */
static __always_inline int follow_route(struct __sk_buff *skb, struct route *route, int stack)
{
	switch (route->kind) {
	case ROUTE_STACK:
		return stack;
	case ROUTE_POD:
		return bpf_redirect_peer(route->ifindex, 0);
	case ROUTE_NEIGHBOUR:
		set_mark(skb, MARK_JUDGED);
		return bpf_redirect_neigh(route->ifindex, &route->next_hop, sizeof(route->next_hop), 0);
	default:
		set_mark(skb, MARK_JUDGED);
		return bpf_redirect(route->ifindex, 0);
	}
}

static __always_inline void spend_hop(struct __sk_buff *skb, bool is_v4)
{
	if (is_v4) {
		struct iphdr *ip = ipv4_of(skb);

		if (ip)
			spend_hop_v4(ip);
	} else {
		struct ipv6hdr *ip6 = ipv6_of(skb);

		if (ip6)
			ip6->hop_limit--;
	}
}

static __always_inline __u8 hops_left(struct __sk_buff *skb, bool is_v4)
{
	if (is_v4) {
		const struct iphdr *ip = ipv4_of(skb);

		return ip ? ip->ttl : 0;
	}
	const struct ipv6hdr *ip6 = ipv6_of(skb);

	return ip6 ? ip6->hop_limit : 0;
}

/* To a local pod, judged as it receives it and made the frame that its veth would have sent. The caller has seen that
 * more than one hop is left. */
static __always_inline enum drop_reason hand_over(struct __sk_buff *skb, const struct endpoint *to, struct route *route,
						  bool is_v4)
{
	spend_hop(skb, is_v4);
	if (bpf_skb_store_bytes(skb, 0, to->mac, sizeof(to->mac) + sizeof(to->host_mac), 0))
		return DROP_MALFORMED;
	route->ifindex = to->ifindex;
	route->kind = to->flags & EP_SHAPED ? ROUTE_EGRESS : ROUTE_POD;
	return DROP_NONE;
}

/* Whether the device takes the packet as it is, or all that it is cut into. Else the stack answers, or fragments. */
static __always_inline bool fits(struct __sk_buff *skb, __u32 ifindex)
{
	__u32 mtu = 0;

	return !bpf_check_mtu(skb, ifindex, &mtu, 0, skb->gso_segs ? BPF_MTU_CHK_SEGS : 0);
}

/* By the node's own routes, if those lead to an uplink. */
static __always_inline void leave_by_uplink(struct __sk_buff *skb, const struct packet *packet, struct route *route,
					    const struct path_config *config, bool is_v4)
{
	/* Without tot_len, GSO packets are not taken for too large. */
	struct bpf_fib_lookup fib = {
		.family = is_v4 ? AF_INET : AF_INET6,
		.l4_protocol = packet->protocol,
		.sport = packet->source_port,
		.dport = packet->destination_port,
		.ifindex = skb->ifindex,
	};
	long result;

	if (is_v4) {
		fib.ipv4_src = packet->source.words[3];
		fib.ipv4_dst = route->destination.words[3];
	} else {
		__builtin_memcpy(fib.ipv6_src, &packet->source, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &route->destination, sizeof(fib.ipv6_dst));
	}
	result = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if ((result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH &&
	     result != BPF_FIB_LKUP_RET_FRAG_NEEDED) ||
	    !is_uplink(config, fib.ifindex))
		return;
	route->ifindex = fib.ifindex;
	route->outside = true;
	route->next_hop.nh_family = fib.family;
	__builtin_memcpy(route->next_hop.ipv6_nh, fib.ipv6_dst, sizeof(fib.ipv6_dst));
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED || (skb->gso_segs && !fits(skb, fib.ifindex)))
		return;
	route->unresolved = result == BPF_FIB_LKUP_RET_NO_NEIGH;
	if (!route->unresolved)
		route->kind = ROUTE_NEIGHBOUR;
}

/*
 * Finds where to route->destination, which is no local pod. ROUTE_STACK also for what the node itself gets, what has no
 * way or is too large for it: the stack knows what to answer. Uses what route->hint remembers, and sets it.
 */
static __always_inline int leave(struct __sk_buff *skb, const struct packet *packet, struct route *route, bool is_v4)
{
	const struct path_config *config = current_paths();
	const struct node_path *path = NULL;
	bool in_cluster = false;

	route->known = true;
	route->kind = ROUTE_STACK;
	route->outside = false;
	route->unresolved = false;
	if (!config) {
		route->hint = RECEIVER_ELSEWHERE;
		return 0;
	}
	if (route->hint != RECEIVER_ELSEWHERE) {
		if (route->hint >= RECEIVER_NODE)
			path = node_path_at(route->hint - RECEIVER_NODE, &route->destination, is_v4);
		if (!path) {
			const struct path *found = path_to(&route->destination, is_v4);
			const __u32 index = found ? found->index : 0;

			in_cluster = found;
			if (found && found->kind == PATH_NODE)
				path = node_path_at(index, &route->destination, is_v4);
			route->hint = path ? RECEIVER_NODE + index : RECEIVER_ELSEWHERE;
		}
	}
	if (path && config->tunnel) {
		if (!fits(skb, config->tunnel))
			return 0;
		route->kind = ROUTE_TUNNEL;
		route->ifindex = config->tunnel;
		route->node = path->node;
	} else if (config->uplinks[0]) {
		leave_by_uplink(skb, packet, route, config, is_v4);
		route->outside &= !path && !in_cluster;
	}
	if (hops_left(skb, is_v4) <= 1)
		route->kind = ROUTE_STACK;
	return 0;
}

/* Functions of their own to the verifier, which looks at each once. */
__noinline int leave_v4(struct __sk_buff *skb, const struct packet *packet, struct route *route)
{
	return packet && route ? leave(skb, packet, route, true) : 0;
}

__noinline int leave_v6(struct __sk_buff *skb, const struct packet *packet, struct route *route)
{
	return packet && route ? leave(skb, packet, route, false) : 0;
}

/* Finds where to `destination`: the local pod there, or NULL and the way out. */
static __always_inline const struct endpoint *find_route(struct __sk_buff *skb, const struct packet *packet,
							 const struct ipv6_address *destination, struct route *route,
							 bool is_v4)
{
	const struct endpoint *to = endpoint_by_address(destination, &route->hint, is_v4);

	route->destination = *destination;
	/* A way that was found to another destination before is not this one's. */
	route->known = false;
	if (to)
		return to;
	if (is_v4)
		leave_v4(skb, packet, route);
	else
		leave_v6(skb, packet, route);
	return NULL;
}
