// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The pod's end of the network: both programs sit on the host-side device of a pod's veth pair (clsact). One program
 * set serves all pods; what differs is in the endpoint's record. A device without one passes nothing: fail closed.
 * What they do, in which order, is told in docs/packet-path.md.
 */
#include "bpf/lib/ct_sweep.h"
#include "bpf/lib/drop.h"
#include "bpf/lib/endpoint.h"
#include "bpf/lib/icmp_error.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/reject.h"
#include "bpf/lib/to_pod.h"
#include "bpf/lib/track.h"

/* Where from_pod sends a packet. */
struct route {
	__u32 pod; /* ifindex of the host-side device of a local pod; 0: the host stack */
	bool back; /* dropped, and turned into an answer to its sender */
};

/* What a program knows of its packet, off the stack, which is small. Programs do not interrupt each other on a
 * processor. */
struct scratch {
	struct packet packet;
	struct flow flow;
	struct error_work error;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} tmp_scratch SEC(".maps");

static __always_inline struct scratch *clean_scratch(void)
{
	const __u32 zero = 0;
	struct scratch *scratch = bpf_map_lookup_elem(&tmp_scratch, &zero);

	if (scratch)
		__builtin_memset(scratch, 0, __builtin_offsetof(struct scratch, error));
	return scratch;
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

/* To a local pod, judged as it receives it and made the frame that its veth would have sent; else to the stack. The
 * last hop dies in the stack, which answers. */
static __always_inline enum drop_reason deliver(struct __sk_buff *skb, const struct packet *packet, __u16 *receiver,
						struct route *route, bool is_v4)
{
	const struct endpoint *to = endpoint_by_address(&packet->destination, receiver, is_v4);
	enum drop_reason reason;

	if (!to || hops_left(skb, is_v4) <= 1)
		return DROP_NONE;
	reason = to_pod(packet, to, is_v4);
	if (reason)
		return reason;
	spend_hop(skb, is_v4);
	if (bpf_skb_store_bytes(skb, 0, to->mac, sizeof(to->mac) + sizeof(to->host_mac), 0))
		return DROP_MALFORMED;
	route->pod = to->ifindex;
	return DROP_NONE;
}

/* A tracked packet, up to its translation. */
static __always_inline enum drop_reason track_from_pod(struct __sk_buff *skb, struct scratch *scratch,
						       struct route *route, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	struct flow *flow = &scratch->flow;
	enum drop_reason reason = track(packet, flow, is_v4);

	if (!reason && flow->form != FORM_ORIGINAL && flow->form != FORM_REPLY)
		reason = begin_connection(packet, flow, true, is_v4);
	if (reason) {
		route->back = flow->answer && reject(skb, packet, is_v4);
		return reason;
	}
	return flow->translated ? translate(skb, packet, &flow->to, is_v4) : DROP_NONE;
}

/* What the pod sends under an address of its own to somewhere beyond the link. */
static __always_inline enum drop_reason send_from_pod(struct __sk_buff *skb, struct scratch *scratch,
						      struct route *route, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	struct flow *flow = &scratch->flow;
	__u16 unknown = RECEIVER_UNKNOWN;
	struct ct_head *head = NULL;
	enum drop_reason reason = parse_transport(skb, packet, is_v4, false);

	if (!reason)
		reason = resolve_fragment(packet, is_v4);
	if (!reason && packet->kind == KIND_ERROR)
		reason = relate_error(skb, packet, &scratch->error, is_v4);
	else if (!reason && packet->kind == KIND_TRACKED)
		reason = track_from_pod(skb, scratch, route, is_v4);
	if (reason)
		return reason;
	if (flow->form != FORM_NONE)
		head = ct_slot(flow->index, is_v4);
	return deliver(skb, packet, head ? &head->endpoints[flow->form == FORM_REPLY] : &unknown, route, is_v4);
}

static __always_inline bool is_beyond_link_v4(const struct ipv6_address *address)
{
	const __be32 v4 = address->words[3];

	return (v4 & bpf_htonl(0xf0000000)) != bpf_htonl(0xe0000000) && v4 != bpf_htonl(0xffffffff);
}

static __always_inline bool is_link_local_v6(const struct ipv6_address *address)
{
	return (address->words[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool is_beyond_link_v6(const struct ipv6_address *address)
{
	return !is_multicast_v6(address) && !is_link_local_v6(address);
}

/* A frame for another MAC is not the router's to forward: the stack discards it. */
static __always_inline bool is_for_us(const struct __sk_buff *skb)
{
	return skb->pkt_type == 0;
}

static __always_inline enum drop_reason from_pod_v4(struct __sk_buff *skb, struct scratch *scratch,
						    const struct endpoint *from, struct route *route)
{
	const struct packet *packet = &scratch->packet;
	const enum drop_reason reason = parse_network(skb, sizeof(struct ethhdr), &scratch->packet, true);

	if (reason)
		return reason;
	if (!from->v4 || packet->source.words[3] != from->v4)
		return DROP_SOURCE_ADDRESS;
	if (!is_for_us(skb) || !is_beyond_link_v4(&packet->destination))
		return DROP_NONE;
	return send_from_pod(skb, scratch, route, true);
}

/* `::` is whoever has no address yet: duplicate address detection and multicast listener reports (RFC 4862, 3590). */
static __always_inline bool may_be_unspecified(const struct ipv6hdr *ip6)
{
	return is_multicast_v6((const void *)&ip6->daddr) &&
	       (ip6->nexthdr == IPPROTO_ICMPV6 || ip6->nexthdr == IPPROTO_HOPOPTS);
}

static __always_inline enum drop_reason from_pod_v6(struct __sk_buff *skb, struct scratch *scratch,
						    const struct endpoint *from, struct route *route)
{
	const struct ipv6hdr *ip6 = ipv6_of(skb);
	const struct ipv6_address *source;
	enum drop_reason reason;

	if (!ip6)
		return DROP_MALFORMED;
	source = (const void *)&ip6->saddr;
	if (is_zero_v6(source))
		return may_be_unspecified(ip6) ? DROP_NONE : DROP_SOURCE_ADDRESS;
	/* Link-local stays on the link, whose other end is the stack. */
	if (same_v6(source, &from->link_local))
		return DROP_NONE;
	if (!same_v6(source, &from->v6))
		return DROP_SOURCE_ADDRESS;
	if (!is_for_us(skb) || !is_beyond_link_v6((const void *)&ip6->daddr))
		return DROP_NONE;
	reason = parse_network(skb, sizeof(struct ethhdr), &scratch->packet, false);
	return reason ? reason : send_from_pod(skb, scratch, route, false);
}

static __always_inline enum drop_reason from_pod_arp(struct __sk_buff *skb, const struct endpoint *from)
{
	const struct arp_ipv4 *arp = arp_of(skb);

	if (!arp)
		return DROP_MALFORMED;
	if (!same_mac(arp->sender_mac, from->mac))
		return DROP_SOURCE_MAC;
	return from->v4 && arp->sender == from->v4 ? DROP_NONE : DROP_SOURCE_ADDRESS;
}

static __always_inline enum drop_reason route_from_pod(struct __sk_buff *skb, struct scratch *scratch,
						       struct route *route)
{
	const struct endpoint *from = endpoint_by_ifindex(skb->ifindex);
	const struct ethhdr *eth;

	if (!from)
		return DROP_NO_ENDPOINT;
	eth = frame_with(skb, 0);
	if (!eth)
		return DROP_MALFORMED;
	if (!same_mac(eth->h_source, from->mac))
		return DROP_SOURCE_MAC;
	if (skb->vlan_present)
		return DROP_PROTOCOL;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return from_pod_v4(skb, scratch, from, route);
	case bpf_htons(ETH_P_IPV6):
		return from_pod_v6(skb, scratch, from, route);
	case bpf_htons(ETH_P_ARP):
		return from_pod_arp(skb, from);
	default:
		return DROP_PROTOCOL;
	}
}

/* clsact ingress: what the pod sends. */
SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	struct scratch *scratch = clean_scratch();
	struct route route = {};
	int verdict;

	if (!scratch)
		return TC_ACT_SHOT;
	verdict = count_verdict(skb, &scratch->packet, route_from_pod(skb, scratch, &route), false);
	if (route.back)
		return bpf_redirect_peer(skb->ifindex, 0);
	return verdict == TC_ACT_OK && route.pod ? bpf_redirect_peer(route.pod, 0) : verdict;
}

/* A tracked packet from the host stack. What begins a connection is judged before, else after its translation. */
static __always_inline enum drop_reason track_to_pod(struct __sk_buff *skb, struct scratch *scratch,
						     const struct endpoint *to, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	struct flow *flow = &scratch->flow;
	enum drop_reason reason = track(packet, flow, is_v4);

	if (reason)
		return reason;
	if (flow->form == FORM_NONE || flow->form == FORM_FOREIGN) {
		reason = to_pod(packet, to, is_v4);
		return reason ? reason : begin_connection(packet, flow, false, is_v4);
	}
	if (flow->translated)
		reason = translate(skb, packet, &flow->to, is_v4);
	return reason ? reason : to_pod(packet, to, is_v4);
}

static __always_inline enum drop_reason ip_to_pod(struct __sk_buff *skb, struct scratch *scratch,
						  const struct endpoint *to, bool is_v4)
{
	struct packet *packet = &scratch->packet;
	enum drop_reason reason = parse_network(skb, sizeof(struct ethhdr), packet, is_v4);

	if (reason)
		return reason;
	if (is_v4 ? !is_beyond_link_v4(&packet->destination)
		  : !is_beyond_link_v6(&packet->destination) || is_link_local_v6(&packet->source))
		return to_pod(packet, to, is_v4);
	reason = parse_transport(skb, packet, is_v4, false);
	if (!reason)
		reason = resolve_fragment(packet, is_v4);
	if (reason)
		return reason;
	if (packet->kind == KIND_TRACKED)
		return track_to_pod(skb, scratch, to, is_v4);
	if (packet->kind == KIND_ERROR)
		reason = relate_error(skb, packet, &scratch->error, is_v4);
	return reason ? reason : to_pod(packet, to, is_v4);
}

static __always_inline enum drop_reason arp_to_pod(struct __sk_buff *skb, const struct endpoint *to)
{
	const struct arp_ipv4 *arp = arp_of(skb);

	if (!arp)
		return DROP_MALFORMED;
	return arp->target == to->v4 ? DROP_NONE : DROP_DESTINATION;
}

static __always_inline enum drop_reason judge_to_pod(struct __sk_buff *skb, struct scratch *scratch)
{
	const struct endpoint *to = endpoint_by_ifindex(skb->ifindex);

	if (!to)
		return DROP_NO_ENDPOINT;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return ip_to_pod(skb, scratch, to, true);
	case bpf_htons(ETH_P_IPV6):
		return ip_to_pod(skb, scratch, to, false);
	case bpf_htons(ETH_P_ARP):
		return arp_to_pod(skb, to);
	default:
		return DROP_PROTOCOL;
	}
}

/* clsact egress: what the host stack sends to the pod. */
SEC("tc")
int host_to_pod(struct __sk_buff *skb)
{
	struct scratch *scratch = clean_scratch();

	return scratch ? count_verdict(skb, &scratch->packet, judge_to_pod(skb, scratch), true) : TC_ACT_SHOT;
}

/* Run by the agent, once it is loaded: the shards' timers run its sweep from now on. */
SEC("tc")
int ct_start(struct __sk_buff *skb)
{
	return bpf_loop(2 * CT_SHARDS, start_step, NULL, 0);
}

/* Run by whoever will not wait for the timers: one tick of every shard. Gives the jiffies that deadlines are told in.
 */
SEC("tc")
int ct_sweep(struct __sk_buff *skb)
{
	bpf_loop(2 * CT_SHARDS, sweep_now_step, NULL, 0);
	return jiffies32();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
