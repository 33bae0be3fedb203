/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Judging what is about to reach a pod, wherever it comes from. bpf_redirect_peer() skips the receiver's host-side
 * programs, so whoever redirects calls to_pod() first; what the host stack sends meets it at the host side's egress,
 * where what was redirected to that for shaping passes by its mark. Either way a packet is judged exactly once, and
 * after it was translated.
 */
#pragma once

#include "bpf/abi/drop.h"
#include "bpf/lib/endpoint.h"
#include "bpf/lib/parse.h"

static __always_inline enum drop_reason to_pod(const struct packet *packet, const struct endpoint *to, bool is_v4)
{
	if (is_v4)
		return packet->destination.words[3] == to->v4 ? DROP_NONE : DROP_DESTINATION;
	return same_v6(&packet->destination, &to->v6) || same_v6(&packet->destination, &to->link_local) ||
			       is_multicast_v6(&packet->destination)
		       ? DROP_NONE
		       : DROP_DESTINATION;
}
