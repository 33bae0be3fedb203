// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The pod's end of the network: both programs sit on the host-side device of a pod's veth pair (clsact). One program
 * set serves all pods; what differs is in the endpoint's record. A device without one passes nothing: fail closed.
 * What they do, in which order, is told in docs/packet-path.md.
 */
#include "bpf/lib/ct_move.h"
#include "bpf/lib/ct_sweep.h"
#include "bpf/lib/drop.h"
#include "bpf/lib/receive.h"
#include "bpf/lib/send.h"

/* clsact ingress: what the pod sends. */
SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	struct scratch *scratch = clean_scratch();
	int verdict;

	if (!scratch)
		return TC_ACT_SHOT;
	verdict = count_verdict(skb, &scratch->packet, route_from_pod(skb, scratch), false);
	if (scratch->route.back)
		return bpf_redirect_peer(skb->ifindex, 0);
	return verdict == TC_ACT_OK ? follow_route(skb, &scratch->route, verdict) : verdict;
}

/* clsact egress: what the host stack sends to the pod. */
SEC("tc")
int host_to_pod(struct __sk_buff *skb)
{
	struct scratch *scratch;

	if (was_judged(skb))
		return TC_ACT_OK;
	scratch = clean_scratch();
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

/* Run by an agent that moves connections into maps of another size, until it gives 0. */
SEC("tc")
int ct_move(struct __sk_buff *skb)
{
	return move_some();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
