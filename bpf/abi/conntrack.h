/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connections of pods (rules: docs/packet-path.md). The truth of one is a slot of an array; hashes only lead to it by
 * {slot, generation}, and a difference is absence. An untranslated connection has one key, in an order that both of its
 * directions give; a translated one has two, of what the client sees and of what the server sees.
 *
 *   map          type        key, value
 *   ct4, ct6     hash        struct ct_key_v4 or _v6, struct ct_index
 *   ct4_slots    array       slot, struct ct_slot_v4; memory-mapped by the agent
 *   ct6_slots    array       slot, struct ct_slot_v6; likewise
 *   ct4_ring     array       position, struct ct_index of an unanswered connection, by age (slot + 1)
 *   ct6_ring     array       likewise
 *   ct_shards    array       family * CT_SHARDS + shard (family 0: IPv4), struct ct_shard
 *   ct_config    array       0, struct ct_config
 *   ct_counters  per-CPU     enum ct_counter, packets or connections
 *   old_…        where connections are moved out of, while the agent changes the size of these maps; old_ct_move:
 *                array, 0, struct ct_move
 *   frags4/6     LRU hash    struct frag_key_v4 or _v6, struct frag: the ports of a datagram's first fragment
 *
 * Times are the low 32 bits of jiffies; compare by the sign of a difference.
 */
#pragma once

#include <linux/bpf.h>

#include "bpf/abi/address.h"

/* Slot numbers are split evenly, in this many runs: a processor takes slots from its own first. */
#define CT_SHARDS 8
#define CT_SWEEP_SLOTS 4096 /* of one shard, by one tick of its timer */

/* The states of all protocols. X(number, CONSTANT, name, seconds until it expires by default) */
#define CT_STATES(X)                                                                                           \
	X(1, CT_TCP_SYN_SENT, "SYN_SENT", 120)                                                                 \
	X(2, CT_TCP_SYN_RECV, "SYN_RECV", 60)                                                                  \
	X(3, CT_TCP_ESTABLISHED, "ESTABLISHED", 86400) /* conntrack.tcpEstablishedTimeout */                   \
	X(4, CT_TCP_FIN_WAIT, "FIN_WAIT", 120)         /* one end has sent FIN … */                            \
	X(5, CT_TCP_CLOSE_WAIT, "CLOSE_WAIT", 3600)    /* … and the other acknowledged: tcpCloseWaitTimeout */ \
	X(6, CT_TCP_LAST_ACK, "LAST_ACK", 30)          /* both have sent FIN … */                              \
	X(7, CT_TCP_TIME_WAIT, "TIME_WAIT", 120)       /* … and the first one acknowledged */                  \
	X(8, CT_TCP_CLOSED, "CLOSE", 10)               /* RST */                                               \
	X(9, CT_TCP_MIDSTREAM, "UNACKNOWLEDGED", 300)  /* its start was not seen, nor yet an answer */         \
	X(10, CT_UDP_SINGLE, "UNREPLIED", 30)          /* conntrack.udpTimeout */                              \
	X(11, CT_UDP_STREAM, "STREAM", 120)            /* both directions seen: conntrack.udpStreamTimeout */  \
	X(12, CT_SCTP_COOKIE_WAIT, "COOKIE_WAIT", 3)                                                           \
	X(13, CT_SCTP_COOKIE_ECHOED, "COOKIE_ECHOED", 3)                                                       \
	X(14, CT_SCTP_ESTABLISHED, "SCTP_ESTABLISHED", 210)                                                    \
	X(15, CT_SCTP_SHUTDOWN, "SHUTDOWN", 3)                                                                 \
	X(16, CT_SCTP_CLOSED, "SCTP_CLOSED", 10)                                                               \
	X(17, CT_ICMP, "ECHO", 30)                                                                             \
	X(18, CT_OTHER, "GENERIC", 600)

enum ct_state {
	CT_NO_STATE = 0,
#define CT_STATE_CONSTANT(number, constant, name, seconds) constant = number,
	CT_STATES(CT_STATE_CONSTANT)
#undef CT_STATE_CONSTANT
};

/*
 * Who may do what with a slot: the low bits of its tag, the rest of which is its generation. Every change is a
 * compare-and-swap of the whole tag, so of several that want one only one gets it.
 */
enum ct_life {
	CT_FREE = 0,      /* on its shard's list, or never used */
	CT_FILLING = 1,   /* its finder's, until the connection is in the hashes or was lost to another */
	CT_NEW = 2,       /* no answer seen: may be reclaimed */
	CT_ANSWERED = 3,  /* ends by its deadline only */
	CT_CONDEMNED = 4, /* absent, by the agent's word (CT_NEW or CT_ANSWERED -> CT_CONDEMNED); the sweep frees it */
	CT_DYING = 5,     /* absent; whoever made it so is removing its keys, and then frees it */
};
#define CT_LIFE_BITS 3
#define CT_LIFE_MASK ((1U << CT_LIFE_BITS) - 1)

enum ct_flags {
	CT_TRANSLATED = 1, /* `from`, `to` differ from `client`, `server`: there are two keys */
	CT_FROM_NODE = 2,  /* the node itself began it: its policy is not asked */
	CT_MOVED = 4,      /* it is in another set of maps now: this slot is never used again */
};

/* Which way a packet goes. */
enum ct_direction {
	CT_ORIGINAL = 0, /* as the first packet went */
	CT_REPLY = 1,
};

struct ct_head {
	__u32 tag; /* generation << CT_LIFE_BITS | enum ct_life */
	union {
		__u32 deadline; /* past it, the connection is absent */
		__u32 next;     /* CT_FREE: the next free slot + 1, or 0 */
	};
	__u8 state;    /* enum ct_state */
	__u8 protocol; /* IPPROTO_* */
	__u8 flags;    /* enum ct_flags */
	__u8 closer;   /* enum ct_direction of the first FIN or of the RST */
	__u32 created; /* when */
	__u32 service; /* index in `services` of the Service that was chosen, 0: none */
	__u32 backend; /* index in backends4 or backends6, 0: none … */
	__u32 backend_generation;
	__u16 endpoints[2]; /* [enum ct_direction]: hint at the record in `endpoints` of a local receiver */
};

/*
 * The first packet went client -> server, and left us from -> to; replies come to -> from, and leave server -> client.
 * Addresses and ports are in network order; for ICMP queries both ports are the identifier, else what has no ports has
 * zeros.
 */
struct ct_slot_v4 {
	struct ct_head head;
	__be32 client;
	__be32 server;
	__be32 from;
	__be32 to;
	__be16 client_port;
	__be16 server_port;
	__be16 from_port;
	__be16 to_port;
	__u32 judged[2]; /* [enum policy_direction]: CT_JUDGED() where that side allowed the connection */
};

struct ct_slot_v6 {
	struct ct_head head;
	struct ipv6_address client;
	struct ipv6_address server;
	struct ipv6_address from;
	struct ipv6_address to;
	__be16 client_port;
	__be16 server_port;
	__be16 from_port;
	__be16 to_port;
	__u32 judged[2];
	__u32 reserved[4];
};

/*
 * What a slot remembers of a verdict: the endpoint's generation, bound to the slot's, so that one that is written late
 * says nothing of the next connection there.
 */
#define CT_JUDGED(generation, tag) ((generation) + ((tag) >> CT_LIFE_BITS) * 2654435761U)

struct ct_index {
	__u32 slot;
	__u32 generation;
};

/* Both ends, the lower first: ct_key_of_v4() and _v6() make them. */
struct ct_key_v4 {
	__be32 low;
	__be32 high;
	__be16 low_port;
	__be16 high_port;
	__u8 protocol;
	__u8 pad[3];
};

struct ct_key_v6 {
	struct ipv6_address low;
	struct ipv6_address high;
	__be16 low_port;
	__be16 high_port;
	__u8 protocol;
	__u8 pad[3];
};

struct ct_shard {
	struct bpf_timer timer; /* sweeps */
	__u64 free;             /* top of the list of free slots: its number + 1 (or 0), above it a count of changes */
	__u32 fresh;            /* so many of its slots have ever been used: the first ones */
	__u32 cursor;           /* the sweep goes on here */
	__u32 ring_head;        /* of a family's shard 0: connections ever put into its ring … */
	__u32 ring_tail;        /* … and taken out at its old end */
	__u32 swept;            /* jiffies of the last tick */
	__u32 reserved[5];
};

/* The move of connections from one set of maps into another (bpf/lib/ct_move.h). */
struct ct_move {
	__u32 all_look; /* every program looks into both sets: new connections go into the new one */
	__u32 next[2];  /* the slot of the old set to go on at: IPv4, IPv6 */
	__u32 moved;    /* connections … */
	__u32 lost;     /* … and those for which there was no room */
	__u32 reserved;
};

struct ct_config {
	__u32 hz;           /* jiffies a second; 0: the agent has not written the map yet */
	__u32 timeouts[31]; /* [enum ct_state], in jiffies */
};

/* X(number, CONSTANT, name): connections, since the maps were made */
#define CT_COUNTERS(X)                                                                       \
	X(0, CT_CREATED_V4, "created_v4")                                                    \
	X(1, CT_CREATED_V6, "created_v6")                                                    \
	X(2, CT_ENDED_V4, "ended_v4") /* for whatever reason: created - ended = there now */ \
	X(3, CT_ENDED_V6, "ended_v6")                                                        \
	X(4, CT_RECLAIMED, "reclaimed") /* unanswered, to make room */                       \
	X(5, CT_REFUSED, "refused")     /* new ones: full, and nothing to reclaim */         \
	X(6, CT_LOST, "lost")           /* another processor was first with the same one */  \
	X(7, CT_TRANSLATED_ONES, "translated")

enum ct_counter {
#define CT_COUNTER_CONSTANT(number, constant, name) constant = number,
	CT_COUNTERS(CT_COUNTER_CONSTANT)
#undef CT_COUNTER_CONSTANT
};
#define CT_MAX_COUNTERS 32

struct frag_key_v4 {
	__be32 source;
	__be32 destination;
	__be16 id;
	__u8 protocol;
	__u8 pad;
};

struct frag_key_v6 {
	struct ipv6_address source;
	struct ipv6_address destination;
	__be32 id;
	__u8 protocol;
	__u8 pad[3];
};

struct frag {
	__be16 source_port;
	__be16 destination_port;
	__u32 seen; /* when the first fragment passed */
};

#define FRAG_SECONDS 10

static inline __attribute__((always_inline)) int ct_is_ordered_v6(const struct ipv6_address *a, __be16 a_port,
								  const struct ipv6_address *b, __be16 b_port)
{
	const __u32 *x = a->words, *y = b->words;

	if (x[3] != y[3])
		return x[3] < y[3];
	if (x[2] != y[2])
		return x[2] < y[2];
	if (x[1] != y[1])
		return x[1] < y[1];
	return x[0] != y[0] ? x[0] < y[0] : a_port <= b_port;
}

/* The order is that of the words as they lie in memory: any will do, if both directions get the same key. */
static inline __attribute__((always_inline)) struct ct_key_v4 ct_key_of_v4(__be32 a, __be16 a_port, __be32 b,
									   __be16 b_port, __u8 protocol)
{
	const int ordered = a != b ? a < b : a_port <= b_port;
	struct ct_key_v4 key = { ordered ? a : b,           ordered ? b : a, ordered ? a_port : b_port,
				 ordered ? b_port : a_port, protocol,        { 0, 0, 0 } };

	return key;
}

/* The same in place: a value of this size costs BPF programs twice the stack. */
static inline __attribute__((always_inline)) void ct_set_key_v6(struct ct_key_v6 *key, const struct ipv6_address *a,
								__be16 a_port, const struct ipv6_address *b,
								__be16 b_port, __u8 protocol)
{
	const int ordered = ct_is_ordered_v6(a, a_port, b, b_port);
	const struct ipv6_address *low = ordered ? a : b, *high = ordered ? b : a;

	key->low = *low;
	key->high = *high;
	key->low_port = ordered ? a_port : b_port;
	key->high_port = ordered ? b_port : a_port;
	key->protocol = protocol;
	key->pad[0] = key->pad[1] = key->pad[2] = 0;
}

static inline __attribute__((always_inline)) struct ct_key_v6
ct_key_of_v6(const struct ipv6_address *a, __be16 a_port, const struct ipv6_address *b, __be16 b_port, __u8 protocol)
{
	struct ct_key_v6 key;

	ct_set_key_v6(&key, a, a_port, b, b_port, protocol);
	return key;
}

FL_ABI_ASSERT(sizeof(struct ct_head) == 32, "layout of struct ct_head is shared and pinned");
FL_ABI_ASSERT(sizeof(struct ct_slot_v4) == 64, "layout of struct ct_slot_v4 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct ct_slot_v6) == 128, "layout of struct ct_slot_v6 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct ct_index) == 8, "layout of struct ct_index is shared and pinned");
FL_ABI_ASSERT(sizeof(struct ct_key_v4) == 16, "layout of struct ct_key_v4 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct ct_key_v6) == 40, "layout of struct ct_key_v6 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct ct_shard) == 64, "layout of struct ct_shard is shared and pinned");
FL_ABI_ASSERT(sizeof(struct ct_move) == 24, "layout of struct ct_move is shared with the agent");
FL_ABI_ASSERT(sizeof(struct ct_config) == 128, "layout of struct ct_config is shared and pinned");
FL_ABI_ASSERT(sizeof(struct frag_key_v4) == 12, "layout of struct frag_key_v4 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct frag_key_v6) == 40, "layout of struct frag_key_v6 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct frag) == 8, "layout of struct frag is shared and pinned");
