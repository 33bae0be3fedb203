/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services in the maps: frontend -> service index -> run of backend ids -> backend. Only array elements written by
 * single aligned stores are trusted whole; a hash value is checked against its key before it is believed.
 */
#pragma once

#include "bpf/abi/address.h"

/* Where a frontend is served. */
enum frontend_scope {
	SCOPE_CLUSTER = 0, /* to pods and to the node itself */
	SCOPE_NODE = 1,    /* at a loopback address: to the node's own sockets alone */
};

/* Keys of hashes svc4 and svc6: what a client connects to. Ports are in network order. */
struct frontend_v4 {
	__be32 address;
	__be16 port;
	__u8 protocol; /* IPPROTO_* */
	__u8 scope;    /* enum frontend_scope */
};

struct frontend_v6 {
	struct ipv6_address address;
	__be16 port;
	__u8 protocol;
	__u8 scope;
};

/*
 * Key {address, 0, 0} says that the address is a Service's, whatever the port; its value leads to service 0. Value of
 * svc4 and svc6. An element being replaced may show another key's value: `check` belongs to the key. */
struct frontend {
	__u32 service; /* index into `services` */
	__u32 check;   /* frontend_check_*() of the key */
};

/*
 * Element of array `services`, a cache line; index 0 is nobody's. Each field is stored whole; `run` publishes a backend
 * set.
 *
 * Two things spare a connection cache lines. A service whose element service_home() names says so itself: `address` and
 * `at` are of a frontend that leads to it, which need not be looked for in svc4 or svc6. And a run that finds room
 * beside the one in use stands in the element.
 */
#define SERVICE_HOMES 131072 /* as many of the first elements are homes */
#define SERVICE_OWN_PLACES 4
#define SERVICE_OWN_RUN (1U << 31)

struct service {
	union {
		struct {
			__u32 base;  /* first element in `runs`, or SERVICE_OWN_RUN + first element in `own_run` … */
			__u32 count; /* … and how many; 0: connections are refused */
		};
		__u64 run; /* both, for the one load and the one store */
	};
	__u32 tag; /* of this use of the index; 0: free */
	union {
		struct {
			__u8 flags;                 /* SERVICE_ALGORITHM */
			__u8 affinity_timeout_s[3]; /* ClientIP affinity, least byte first; 0: none */
		};
		__u32 settings; /* both */
	};
	__u32 turn;                  /* of round robin; counted by BPF */
	struct ipv6_address address; /* of the frontend that is at home here, IPv4 v4-mapped … */
	union {
		struct {
			__be16 port; /* … and its port */
			__u8 protocol;
			__u8 scope;
		};
		__u32 at; /* these three, stored last and cleared first; 0: none is at home */
	};
	__u64 hits;                        /* connections that got a backend; counted by BPF */
	__u32 own_run[SERVICE_OWN_PLACES]; /* indices into backends4 or backends6 */
};

/*
 * How a connection chooses in a run. The hashes choose in a Maglev table, where most clients keep their backend when
 * the set changes; in a run for random and round robin a backend stands as often as it weighs.
 */
enum service_algorithm {
	ALGORITHM_RANDOM = 0,
	ALGORITHM_ROUND_ROBIN = 1,
	ALGORITHM_LEAST_CONNECTIONS = 2,
	ALGORITHM_SOURCE_HASH = 3,      /* of the client's address */
	ALGORITHM_DESTINATION_HASH = 4, /* of the service's address and port */
	ALGORITHM_MAGLEV = 5,           /* of both, and the flow */
};
#define SERVICE_ALGORITHM 0xff  /* mask of service.flags and service.settings: enum service_algorithm */
#define SERVICE_TIMEOUT_SHIFT 8 /* of service.settings */
#define SERVICE_MAX_TIMEOUT_S ((1U << 24) - 1)

/* Element of array `runs`. */
struct run_slot {
	__u32 backend; /* index into backends4 or backends6 */
	__u32 tag;     /* of the service that the run belongs to; another: the run was given away, read again */
};

/*
 * Elements of arrays backends4 and backends6; index 0 is nobody's. A backend belongs to one service. It is valid while
 * `state` says so; what remembers a backend remembers {index, generation}, and a difference means that it is gone.
 */
enum backend_state {
	BACKEND_GONE = 0,
	BACKEND_VALID = 1,
	BACKEND_DRAINING = 2, /* gets no new connection; those of TCP and SCTP go on */
};

struct backend_v4 {
	__be32 address;
	__be16 port;
	__u16 state; /* enum backend_state */
	__u32 service;
	__u32 generation;
};

struct backend_v6 {
	struct ipv6_address address;
	__be16 port;
	__u16 state;
	__u32 service;
	__u32 generation;
	__u32 reserved;
};

/*
 * Elements of arrays use4 and use6, beside the backend's of the same index: how much it is used. Not per CPU: written
 * once a connection, and an array of a quarter million elements for each CPU costs more than that.
 */
struct backend_use {
	__u32 open;       /* connections that were noted as opened and not yet as closed */
	__u32 generation; /* the backend's; what is of another is not counted */
	__u32 weight;     /* for least connections; 1 and more */
	__u32 reserved;
	__u64 hits; /* connections that chose it */
};

/* LRU hashes affinity4 and affinity6: which backend a client keeps. */
struct affinity_v4 {
	__be32 client;
	__u32 service;
};

struct affinity_v6 {
	struct ipv6_address client;
	__u32 service;
};

struct affinity {
	__u32 backend;
	__u32 generation;
	__u64 seen_ns; /* last connection; CLOCK_MONOTONIC */
};

/* Value of hash sk_clients, by netns cookie: the hooks act for sockets in these namespaces only. */
struct socket_client {
	struct ipv6_address v6; /* the client for affinity; zero: it has none of the family */
	__be32 v4;
	__u32 reserved;
};

/* An end of a socket's traffic; IPv4 as v4-mapped IPv6. */
struct socket_peer {
	struct ipv6_address address;
	__be16 port;
	__u16 pad;
};

/* What the application named, and where its traffic goes instead. */
struct translation {
	struct socket_peer service;
	struct socket_peer backend;
	__u32 service_index;
	__u32 backend_index;
	__u32 generation;
	__u32 state; /* enum translation_state */
};

enum translation_state {
	TRANSLATION_NONE = 0,
	TRANSLATION_FILLING = 1, /* by another thread of the socket's owner */
	TRANSLATION_READY = 2,   /* never changes again, while the socket lives */
};

/* Socket storage sk_udp: the peers of an unconnected UDP socket. More than fit are in hash sk_spill. */
#define SOCKET_SLOTS 4
#define SOCKET_SPILL 64

struct socket_slots {
	struct translation slots[SOCKET_SLOTS];
	__u32 spilled; /* ordinals below this may be in sk_spill */
	__u32 reserved;
};

struct spill_key {
	__u64 cookie; /* the socket's */
	__u32 ordinal;
	__u32 pad;
};

struct spill {
	__u64 cookie; /* the key's, to tell an element that was given away */
	struct translation translation;
};

static inline __u32 frontend_check_v4(const struct frontend_v4 *key)
{
	return key->address ^ ((__u32)key->port << 16 | key->protocol << 8 | key->scope);
}

static inline __u32 frontend_check_v6(const struct frontend_v6 *key)
{
	const __u32 *word = key->address.words;

	/* Multiplied, so that words in another order differ. */
	return (((word[0] * 31 + word[1]) * 31 + word[2]) * 31 + word[3]) ^
	       ((__u32)key->port << 16 | key->protocol << 8 | key->scope);
}

/* A frontend's `service.at`. */
static inline __u32 service_at_word(__be16 port, __u8 protocol, __u8 scope)
{
	return port | (__u32)protocol << 16 | (__u32)scope << 24; /* little-endian, as all that it is built for */
}

/* The element of `elements` in `services` that a frontend's service is to have, where that is free; 0: none. */
static inline __u32 service_home(const struct ipv6_address *address, __u32 at, __u32 elements)
{
	const __u32 homes = elements < SERVICE_HOMES ? elements : SERVICE_HOMES;
	const __u32 *word = address->words;
	__u64 hash = ((__u64)word[0] << 32 | word[1]) * 0xff51afd7ed558ccdULL;

	hash = (hash ^ hash >> 32 ^ word[2]) * 0xc4ceb9fe1a85ec53ULL;
	hash = (hash ^ ((__u64)word[3] << 32 | at)) * 0x9e3779b97f4a7c15ULL;
	hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ULL;
	return (hash >> 32) * homes >> 32;
}

FL_ABI_ASSERT(sizeof(struct frontend_v4) == 8, "layout of struct frontend_v4 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct frontend_v6) == 20, "layout of struct frontend_v6 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct frontend) == 8, "layout of struct frontend is shared and pinned");
FL_ABI_ASSERT(sizeof(struct service) == 64, "layout of struct service is shared and pinned");
FL_ABI_ASSERT(sizeof(struct run_slot) == 8, "layout of struct run_slot is shared and pinned");
FL_ABI_ASSERT(sizeof(struct backend_v4) == 16, "layout of struct backend_v4 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct backend_v6) == 32, "layout of struct backend_v6 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct backend_use) == 24, "layout of struct backend_use is shared and pinned");
FL_ABI_ASSERT(sizeof(struct affinity) == 16, "layout of struct affinity is shared and pinned");
FL_ABI_ASSERT(sizeof(struct socket_client) == 24, "layout of struct socket_client is shared and pinned");
FL_ABI_ASSERT(sizeof(struct translation) == 56, "layout of struct translation is shared and pinned");
FL_ABI_ASSERT(sizeof(struct socket_slots) == 232, "layout of struct socket_slots is shared and pinned");
FL_ABI_ASSERT(sizeof(struct spill) == 64, "layout of struct spill is shared and pinned");
