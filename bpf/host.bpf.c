// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The node's end towards other nodes and the world: both programs sit on every uplink (TCX, or clsact where a kernel
 * has none). What is no pod's they leave to the stack and to other programs. Rules: docs/packet-path.md.
 */
#include "bpf/lib/arrive.h"
#include "bpf/lib/depart.h"

/* Ingress: what comes by the uplink. */
SEC("tc")
int from_uplink(struct __sk_buff *skb)
{
	/* For another MAC; for a VLAN, whose device has its own programs. */
	if (skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return TC_ACT_UNSPEC;
	return arrive_by(skb, true);
}

static __always_inline enum drop_reason leave_by(struct __sk_buff *skb, struct scratch *scratch, bool is_v4)
{
	/* What the stack sends has a header. */
	if (parse_network(skb, sizeof(struct ethhdr), &scratch->packet, is_v4))
		return DROP_NONE;
	return depart(skb, scratch, is_v4);
}

/* Egress: what the stack, or a program, sends by the uplink. */
SEC("tc")
int to_uplink(struct __sk_buff *skb)
{
	enum drop_reason reason = DROP_NONE;
	struct scratch *scratch;

	if (was_judged(skb) || !skb->ingress_ifindex)
		return TC_ACT_UNSPEC;
	scratch = clean_scratch();
	if (!scratch)
		return TC_ACT_SHOT;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		reason = leave_by(skb, scratch, true);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		reason = leave_by(skb, scratch, false);
	return reason ? count_verdict(skb, &scratch->packet, reason, false) : TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
