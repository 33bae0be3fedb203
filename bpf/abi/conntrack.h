/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connections of pods (rules: docs/packet-path.md). The truth of one is a slot of an array; an index only leads to it,
 * and what the slot does not confirm is absence. An untranslated connection has one key, which both of its directions
 * give; a translated one has two, of what the client sees and of what the server sees.
 *
 *   map          type        key, value
 *   ct4, ct6     array       number of a bucket, struct ct_bucket: the index
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

/*
 * The index: a hash of a key's two ends leads to two buckets, either of which may hold the key's entry. A bucket is one
 * cache line, and all that it says of a key is half of that hash: so the index takes 18 bytes a key.
 */
#define CT_BUCKET_ENTRIES 7
#define CT_BUCKET_FAIR 5 /* the first bucket takes so many without a look at how full the second is */

/* Buckets for so many keys: half full, and some more, so that chance has room in small ones, too. */
#define CT_BUCKETS(keys) ((keys) * 2U / CT_BUCKET_ENTRIES + 32)

struct ct_bucket {
	struct bpf_spin_lock lock;        /* held by who adds an entry whose first bucket it is */
	__u32 spilled;                    /* entries whose first bucket it is, and that are in their second … */
	__u64 entries[CT_BUCKET_ENTRIES]; /* … CT_ENTRY(), 0: none */
};

/* Half a hash, the lowest bits of the slot's generation, its number + 1. */
#define CT_ENTRY(hash, slot, generation) \
	((__u64)(__u32)(hash) << 32 | (__u64)((generation) & 0xffU) << 24 | ((slot) + 1))
#define CT_ENTRY_SLOT(entry) (((__u32)(entry) & 0xffffffU) - 1)
#define CT_ENTRY_GENERATION(entry) ((__u32)(entry) >> 24)
#define CT_MAX_SLOTS ((1U << 24) - 1)

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
	CT_FILLING = 1,   /* its finder's, until the connection is in the index or was lost to another */
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

/* Of the ring. */
struct ct_index {
	__u32 slot; /* + 1 */
	__u32 generation;
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
	__u32 timeouts[29]; /* [enum ct_state], in jiffies */
	__u64 seed;         /* of the index's hash: random, and never changed while there are connections */
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

/* Every bit of what is given decides half of those that come. */
static inline __attribute__((always_inline)) __u64 ct_mix(__u64 word)
{
	word ^= word >> 32;
	word *= 0xd6e8feb86659fd93ULL;
	word ^= word >> 32;
	word *= 0xd6e8feb86659fd93ULL;
	return word ^ word >> 32;
}

static inline __attribute__((always_inline)) __u64 ct_hash_end_v4(__be32 address, __be16 port, __u64 seed)
{
	return ct_mix(((__u64)port << 32 | address) ^ seed);
}

static inline __attribute__((always_inline)) __u64 ct_hash_end_v6(const struct ipv6_address *address, __be16 port,
								  __u64 seed)
{
	const __u32 *word = address->words;
	const __u64 upper = ct_mix(((__u64)word[1] << 32 | word[0]) ^ seed);

	return ct_mix(ct_mix(((__u64)word[3] << 32 | word[2]) ^ upper) + port);
}

/* A key's hash, of its ends' in either order. Its lower half is never 0: an entry has a hash. */
static inline __attribute__((always_inline)) __u64 ct_hash_of(__u64 end, __u64 other_end, __u8 protocol)
{
	const __u64 hash = ct_mix(end + other_end + protocol);

	return (__u32)hash ? hash : hash + 1;
}

/* The two buckets of a key, of so many. */
static inline __attribute__((always_inline)) __u32 ct_first_bucket(__u64 hash, __u32 buckets)
{
	return (hash >> 32) * buckets >> 32;
}

static inline __attribute__((always_inline)) __u32 ct_second_bucket(__u64 hash, __u32 buckets)
{
	return (hash * 0x9e3779b97f4a7c15ULL >> 32) * buckets >> 32;
}

FL_ABI_ASSERT(sizeof(struct ct_head) == 32, "layout of struct ct_head is shared and pinned");
FL_ABI_ASSERT(sizeof(struct ct_slot_v4) == 64, "layout of struct ct_slot_v4 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct ct_slot_v6) == 128, "layout of struct ct_slot_v6 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct ct_index) == 8, "layout of struct ct_index is shared and pinned");
FL_ABI_ASSERT(sizeof(struct ct_bucket) == 64, "a bucket is a cache line");
FL_ABI_ASSERT(sizeof(struct ct_shard) == 64, "layout of struct ct_shard is shared and pinned");
FL_ABI_ASSERT(sizeof(struct ct_move) == 24, "layout of struct ct_move is shared with the agent");
FL_ABI_ASSERT(sizeof(struct ct_config) == 128, "layout of struct ct_config is shared and pinned");
FL_ABI_ASSERT(sizeof(struct frag_key_v4) == 12, "layout of struct frag_key_v4 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct frag_key_v6) == 40, "layout of struct frag_key_v6 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct frag) == 8, "layout of struct frag is shared and pinned");
