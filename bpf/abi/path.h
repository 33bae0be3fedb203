/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How packets of pods leave the node.
 *
 *   map              type    key, value
 *   paths4, paths6   trie    struct path_key_v4 or _v6, struct path: what is special about a destination
 *   node_paths       array   index, struct node_path: of each path to another node
 *   path_config      array   0, struct path_config of which `current` alone counts: where the one in force is
 */
#pragma once

#include "bpf/abi/address.h"
#include "bpf/abi/endpoint.h"

#define MAX_PATHS 65536 /* of a family */
#define MAX_NODE_PATHS 32768
#define MAX_UPLINKS 16

struct path_key_v4 {
	__u32 prefix; /* bits */
	__be32 address;
};

struct path_key_v6 {
	__u32 prefix;
	struct ipv6_address address;
};

enum path_kind {
	PATH_DIRECT = 1, /* of the cluster: never masqueraded */
	PATH_NODE = 2,   /* likewise, and of another node: through the tunnel where there is one */
};

struct path {
	__u32 kind;  /* enum path_kind */
	__u32 index; /* PATH_NODE: in `node_paths` */
};

/*
 * An element means the same as long as it is in use: whoever remembers its index compares the destination with it. An
 * element is given up, and the path gets another, when the path changes or a longer prefix comes to lie within it.
 */
struct node_path {
	struct ipv6_address network; /* IPv4: the last word */
	struct ipv6_address mask;
	struct ipv6_address node; /* the node's address in the underlay; IPv4 as v4-mapped IPv6 */
	__u32 family;             /* of the destinations: 4 or 6; 0: the element is free */
	__u32 reserved[3];
};

/* Two elements take turns: the other one is written whole, then `current` changes. */
struct path_config {
	__u32 current;        /* of element 0: 1 or 2; 0: none yet */
	__u32 tunnel;         /* ifindex of the VXLAN device; 0: none */
	__u32 vni;            /* of the tunnel */
	__be32 masquerade_v4; /* 0: IPv4 is not masqueraded */
	struct ipv6_address masquerade_v6;
	__u16 first_port; /* host order; those that masqueraded connections get */
	__u16 last_port;
	__u32 uplinks[MAX_UPLINKS]; /* ifindexes of devices that have the programs; the first 0 ends them */
	__u32 reserved[7];
};
#define PATH_CONFIGS 3

/* What ct_head.endpoints and other memories say of a receiver; up to MAX_ENDPOINTS it is index + 1 in `endpoints`. */
#define RECEIVER_UNKNOWN 0
#define RECEIVER_NODE (MAX_ENDPOINTS + 1) /* … + index in `node_paths` */
#define RECEIVER_ELSEWHERE 0xffff         /* not a local pod; one that gets the address later is reached by the stack */

FL_ABI_ASSERT(RECEIVER_NODE + MAX_NODE_PATHS <= RECEIVER_ELSEWHERE, "a receiver is 16 bits");
FL_ABI_ASSERT(sizeof(struct path_key_v4) == 8, "layout of struct path_key_v4 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct path_key_v6) == 20, "layout of struct path_key_v6 is shared and pinned");
FL_ABI_ASSERT(sizeof(struct path) == 8, "layout of struct path is shared and pinned");
FL_ABI_ASSERT(sizeof(struct node_path) == 64, "layout of struct node_path is shared and pinned");
FL_ABI_ASSERT(sizeof(struct path_config) == 128, "layout of struct path_config is shared and pinned");
