// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The tunnel's end: both programs sit on the VXLAN device that leads to all other nodes (TCX, or clsact where a kernel
 * has none). Rules: docs/packet-path.md.
 */
#include "bpf/lib/arrive.h"
#include "bpf/lib/depart.h"

/* Ingress: what other nodes sent, out of its tunnel. */
SEC("tc")
int from_overlay(struct __sk_buff *skb)
{
	/* Other agents' nodes may not know the MAC of the device here. */
	if (skb->pkt_type == PACKET_OTHERHOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	return arrive_by(skb, false);
}

/* Tells the device which node it is for. */
static __always_inline enum drop_reason address(struct __sk_buff *skb, struct scratch *scratch, bool is_v4)
{
	const struct packet *packet = &scratch->packet;
	const struct node_path *node;
	const struct path *path;
	enum drop_reason reason;

	if (parse_network(skb, sizeof(struct ethhdr), &scratch->packet, is_v4))
		return DROP_MALFORMED;
	/* Neighbours and listeners are of a link, which the tunnel is not: the device drops what is told no node. */
	if (is_v4 ? !is_beyond_link_v4(&packet->destination) : !is_beyond_link_v6(&packet->destination))
		return DROP_NONE;
	reason = depart(skb, scratch, is_v4);
	if (reason)
		return reason;
	path = path_to(&packet->destination, is_v4);
	node = path && path->kind == PATH_NODE ? node_path_at(path->index, &packet->destination, is_v4) : NULL;
	if (!node)
		return DROP_NO_NODE;
	return set_tunnel(skb, &node->node) ? DROP_NONE : DROP_MALFORMED;
}

/* Egress: what the stack routes into the tunnel; what a program sends there has been told already. */
SEC("tc")
int to_overlay(struct __sk_buff *skb)
{
	enum drop_reason reason = DROP_NONE;
	struct scratch *scratch;

	if (was_judged(skb))
		return TC_ACT_UNSPEC;
	scratch = clean_scratch();
	if (!scratch)
		return TC_ACT_SHOT;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		reason = address(skb, scratch, true);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		reason = address(skb, scratch, false);
	return reason ? count_verdict(skb, &scratch->packet, reason, false) : TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
