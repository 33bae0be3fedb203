// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The socket load balancer: a socket that names a service is connected to a backend, and its owner goes on seeing the
 * service. Pods and the node pay once a connection (UDP: once a datagram), never for a packet. The hooks see every
 * socket below their cgroup and act for those in the network namespaces that are ours; others pass untouched.
 */
#include <bpf/bpf_endian.h>
#include <linux/in.h>

#include "bpf/lib/socket.h"
#include "bpf/lib/socket_memory.h"

#define PASS 1
#define REFUSE 0

/* ctx->user_* as one peer, and back. Only the words that differ in kind are touched: v4 hooks see user_ip4 alone. */
static __always_inline struct socket_peer peer_v4(const struct bpf_sock_addr *ctx)
{
	return (struct socket_peer){ .address = mapped_v4(ctx->user_ip4), .port = ctx->user_port };
}

static __always_inline struct socket_peer peer_v6(const struct bpf_sock_addr *ctx)
{
	return (struct socket_peer){ .address = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
						    ctx->user_ip6[3] } },
				     .port = ctx->user_port };
}

static __always_inline int set_peer_v4(struct bpf_sock_addr *ctx, const struct socket_peer *peer)
{
	ctx->user_ip4 = peer->address.words[3];
	ctx->user_port = peer->port;
	return PASS;
}

static __always_inline int set_peer_v6(struct bpf_sock_addr *ctx, const struct socket_peer *peer)
{
	ctx->user_ip6[0] = peer->address.words[0];
	ctx->user_ip6[1] = peer->address.words[1];
	ctx->user_ip6[2] = peer->address.words[2];
	ctx->user_ip6[3] = peer->address.words[3];
	ctx->user_port = peer->port;
	return PASS;
}

/* The node's own network namespace, by its cookie. */
const volatile __u64 node_netns;

static __always_inline bool is_loopback(const struct socket_peer *peer, bool is_v4)
{
	const struct ipv6_address *address = &peer->address;

	return is_v4 ? (address->words[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000)
		     : !(address->words[0] | address->words[1] | address->words[2]) &&
			       address->words[3] == bpf_htonl(1);
}

/* The index of the service at `peer` for a socket of the namespace, or 0: every namespace has a loopback of its own. */
static __always_inline __u32 service_for(__u64 netns, const struct socket_peer *peer, __u8 protocol, bool is_v4)
{
	if (!is_loopback(peer, is_v4))
		return service_at(peer, protocol, is_v4);
	return netns == node_netns ? service_of(peer, protocol, SCOPE_NODE, is_v4) : 0;
}

static __always_inline int refuse(int error)
{
	bpf_set_retval(error);
	return REFUSE;
}

/* Translates `peer` for a connection: 1 translated, 0 not a service, -errno. */
static __always_inline int connect_peer(struct bpf_sock_addr *ctx, struct socket_peer *peer, bool is_v4)
{
	struct bpf_sock *sk = ctx->sk;
	const __u64 netns = bpf_get_netns_cookie(ctx);
	const struct socket_client *client = bpf_map_lookup_elem(&sk_clients, &netns);
	struct translation to = { .service = *peer, .state = TRANSLATION_READY };
	struct socket_memory *home;
	__u64 cookie;
	int result;

	if (!client || !sk)
		return 0;
	cookie = bpf_get_socket_cookie(ctx);
	home = home_of(cookie);
	if (!home)
		return -ENOBUFS;
	to.service_index = service_for(netns, peer, ctx->protocol, is_v4);
	if (!to.service_index) {
		forget_connected(home, cookie);
		return is_service_address(peer, is_v4) ? -ECONNREFUSED : 0;
	}
	result = choose_for_flow(client, cookie, is_v4, &to);
	if (!result)
		result = remember_connected(home, cookie, netns, ctx->protocol, &to, is_v4);
	if (result)
		return result;
	*peer = to.backend;
	return 1;
}

/* Translates the destination of one datagram of an unconnected socket: 1 translated, 0 not a service, -errno. */
static __always_inline int send_peer(struct bpf_sock_addr *ctx, struct socket_peer *peer, bool is_v4)
{
	struct bpf_sock *sk = ctx->sk;
	const __u64 netns = bpf_get_netns_cookie(ctx);
	const struct socket_client *client = bpf_map_lookup_elem(&sk_clients, &netns);
	struct translation to = { .service = *peer, .state = TRANSLATION_READY };
	struct spill_walk walk = { .peer = *peer, .is_v4 = is_v4, .free_ordinal = SOCKET_SPILL };
	struct socket_slots *state;
	int result;

	if (!client || !sk)
		return 0;
	to.service_index = service_for(netns, peer, ctx->protocol, is_v4);
	if (!to.service_index)
		return is_service_address(peer, is_v4) ? -ECONNREFUSED : 0;
	state = bpf_sk_storage_get(&sk_udp, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state)
		return -ENOMEM;
	/* The socket keeps its backend while that is valid. */
	for (int i = 0; i < SOCKET_SLOTS; i++) {
		const struct translation *slot = &state->slots[i];

		if (READ_ONCE(slot->state) == TRANSLATION_READY && same_peer(&slot->service, peer) &&
		    slot->service_index == to.service_index && is_current(slot, is_v4)) {
			*peer = slot->backend;
			return 1;
		}
	}
	walk.cookie = bpf_get_socket_cookie(ctx);
	if (READ_ONCE(state->spilled) && find_spilled(&walk, state->spilled)) {
		*peer = walk.result.backend;
		return 1;
	}
	result = choose_for_flow(client, walk.cookie, is_v4, &to);
	if (!result && !fill_slot(state, &to))
		result = spill(state, &walk, &to);
	if (result)
		return result;
	*peer = to.backend;
	return 1;
}

/* Shows `peer` as the service that it stands for: 1 changed, 0 untouched. */
static __always_inline int reveal_peer(struct bpf_sock_addr *ctx, struct socket_peer *peer)
{
	struct bpf_sock *sk = ctx->sk;
	const __u64 cookie = bpf_get_socket_cookie(ctx);
	struct socket_memory *home = home_of(cookie);

	if (!sk || !home)
		return 0;
	return reverse_connected(home, cookie, peer) || reverse_unconnected(sk, cookie, peer);
}

SEC("cgroup/connect4")
int sock_connect4(struct bpf_sock_addr *ctx)
{
	struct socket_peer peer = peer_v4(ctx);
	const int result = connect_peer(ctx, &peer, true);

	return result > 0 ? set_peer_v4(ctx, &peer) : result < 0 ? refuse(result) : PASS;
}

SEC("cgroup/connect6")
int sock_connect6(struct bpf_sock_addr *ctx)
{
	struct socket_peer peer = peer_v6(ctx);
	const int result =
		is_mapped_v4(&peer.address) ? connect_peer(ctx, &peer, true) : connect_peer(ctx, &peer, false);

	return result > 0 ? set_peer_v6(ctx, &peer) : result < 0 ? refuse(result) : PASS;
}

SEC("cgroup/sendmsg4")
int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct socket_peer peer = peer_v4(ctx);
	const int result = send_peer(ctx, &peer, true);

	return result > 0 ? set_peer_v4(ctx, &peer) : result < 0 ? refuse(result) : PASS;
}

SEC("cgroup/sendmsg6")
int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct socket_peer peer = peer_v6(ctx);
	const int result = is_mapped_v4(&peer.address) ? send_peer(ctx, &peer, true) : send_peer(ctx, &peer, false);

	return result > 0 ? set_peer_v6(ctx, &peer) : result < 0 ? refuse(result) : PASS;
}

SEC("cgroup/recvmsg4")
int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	struct socket_peer peer = peer_v4(ctx);

	return reveal_peer(ctx, &peer) ? set_peer_v4(ctx, &peer) : PASS;
}

SEC("cgroup/recvmsg6")
int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	struct socket_peer peer = peer_v6(ctx);

	return reveal_peer(ctx, &peer) ? set_peer_v6(ctx, &peer) : PASS;
}

SEC("cgroup/getpeername4")
int sock_peer4(struct bpf_sock_addr *ctx)
{
	struct socket_peer peer = peer_v4(ctx);

	return reveal_peer(ctx, &peer) ? set_peer_v4(ctx, &peer) : PASS;
}

SEC("cgroup/getpeername6")
int sock_peer6(struct bpf_sock_addr *ctx)
{
	struct socket_peer peer = peer_v6(ctx);

	return reveal_peer(ctx, &peer) ? set_peer_v6(ctx, &peer) : PASS;
}

SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *sk)
{
	const __u64 cookie = bpf_get_socket_cookie(sk);
	struct socket_memory *home = home_of(cookie);
	const struct socket_slots *state;

	if (home)
		forget_connected(home, cookie);
	if (sk->protocol != IPPROTO_UDP)
		return PASS;
	state = bpf_sk_storage_get(&sk_udp, sk, 0, 0);
	if (state && state->spilled)
		free_spilled(cookie);
	return PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
