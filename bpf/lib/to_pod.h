/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Judging what is about to reach a pod, wherever it comes from. bpf_redirect_peer() skips the receiver's host-side
 * programs, so whoever redirects calls to_pod() first; what the host stack sends meets it at the host side's egress,
 * where what was redirected to that for shaping passes by its mark. Either way a packet is judged exactly once, and
 * after it was translated.
 */
#pragma once

#include "bpf/lib/admit.h"

/* Whether the packet is for an address of the pod. */
static __always_inline bool is_addressed(const struct packet *packet, const struct endpoint *to, bool is_v4)
{
	if (is_v4)
		return packet->destination.words[3] == to->v4;
	return same_v6(&packet->destination, &to->v6) || same_v6(&packet->destination, &to->link_local) ||
	       is_multicast_v6(&packet->destination);
}

/* `from_node`: the node itself sends it, which no policy keeps from its pods. */
static __always_inline enum drop_reason to_pod(const struct packet *packet, const struct flow *flow,
					       const struct endpoint *to, bool from_node, bool is_v4)
{
	if (!is_addressed(packet, to, is_v4))
		return DROP_DESTINATION;
	return from_node ? DROP_NONE : judge_receiver(packet, flow, to, is_v4);
}
