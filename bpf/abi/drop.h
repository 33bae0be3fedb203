/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Why a packet was dropped: numbers never change their meaning; names are what metrics and tools show. */
#pragma once

#include <linux/types.h>

/* X(number, CONSTANT, name) */
#define DROP_REASONS(X)                                                                     \
	X(1, DROP_NO_ENDPOINT, "no_endpoint")       /* the device is no pod's (any more) */ \
	X(2, DROP_MALFORMED, "malformed")           /* headers are cut or make no sense */  \
	X(3, DROP_PROTOCOL, "protocol")             /* neither ARP, IPv4 nor IPv6 */        \
	X(4, DROP_SOURCE_MAC, "source_mac")         /* a pod sends from a foreign MAC */    \
	X(5, DROP_SOURCE_ADDRESS, "source_address") /* … from a foreign IP address */       \
	X(6, DROP_DESTINATION, "destination")       /* sent to a pod whose address it isn't */

enum drop_reason {
	DROP_NONE = 0, /* forwarded */
#define DROP_REASON_CONSTANT(number, constant, name) constant = number,
	DROP_REASONS(DROP_REASON_CONSTANT)
#undef DROP_REASON_CONSTANT
};

/* Elements of `pod_counters`, which is indexed by drop reason; room for reasons to come. */
#define MAX_DROP_REASONS 256

struct packet_counter {
	__u64 packets;
	__u64 bytes;
};
