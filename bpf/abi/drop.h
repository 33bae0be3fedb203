/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Why a packet was dropped: numbers never change their meaning; names are what metrics and tools show. */
#pragma once

#include <linux/types.h>

/* X(number, CONSTANT, name) */
#define DROP_REASONS(X)                                                                                     \
	X(1, DROP_NO_ENDPOINT, "no_endpoint")         /* the device is no pod's (any more) */               \
	X(2, DROP_MALFORMED, "malformed")             /* headers are cut or make no sense */                \
	X(3, DROP_PROTOCOL, "protocol")               /* neither ARP, IPv4 nor IPv6 */                      \
	X(4, DROP_SOURCE_MAC, "source_mac")           /* a pod sends from a foreign MAC */                  \
	X(5, DROP_SOURCE_ADDRESS, "source_address")   /* … from a foreign IP address */                     \
	X(6, DROP_DESTINATION, "destination")         /* sent to a pod whose address it isn't */            \
	X(7, DROP_NO_BACKEND, "no_backend")           /* rejected: the Service has no endpoint */           \
	X(8, DROP_NO_SERVICE_PORT, "no_service_port") /* rejected: the ClusterIP has no such port */        \
	X(9, DROP_BACKEND_GONE, "backend_gone")       /* rejected: the connection's backend is no more */   \
	X(10, DROP_NO_CONNECTION, "no_connection")    /* goes on with, or answers, what nobody began */     \
	X(11, DROP_ICMP_ERROR, "icmp_error")          /* is about no connection that is known */            \
	X(12, DROP_FRAGMENT, "fragment")              /* its datagram's first fragment was not seen */      \
	X(13, DROP_CT_FULL, "conntrack_full")         /* no slot for a new connection */                    \
	X(14, DROP_CT_RACE, "conntrack_race")         /* another processor is just ending the connection */ \
	X(15, DROP_TUPLE_TAKEN, "tuple_taken")        /* another connection's packets look the same */      \
	X(16, DROP_TRANSLATION, "translation")        /* the packet could not be rewritten */               \
	X(17, DROP_POLICY_INGRESS, "policy_ingress")  /* denied by the ingress rules of the server's pod */ \
	X(18, DROP_POLICY_EGRESS, "policy_egress")    /* denied by the egress rules of the client's pod */  \
	X(20, DROP_NO_PORT, "no_port")                /* no port is free to masquerade it */                \
	X(21, DROP_NO_NODE, "no_node")                /* into the tunnel, but the address is on no node */

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
