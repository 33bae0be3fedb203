// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Which connected sockets have a backend that is gone: a walk over what sockets remember (map sk_peer), of all
 * namespaces at once. The agent ends those by SOCK_DESTROY.
 */
#include "bpf/lib/socket.h"

#include "bpf/abi/dead_socket.h"
#include "bpf/lib/kernel.h"

#define AF_INET 2

static __always_inline void copy_address(struct ipv6_address *to, const struct in6_addr *from)
{
	for (int i = 0; i < 4; i++)
		to->words[i] = from->in6_u.u6_addr32[i];
}

/* Whether the socket is at the backend still: it may have been connected elsewhere, or be disconnected. */
static __always_inline bool is_peer(const struct dead_socket *socket, const struct socket_peer *backend)
{
	const bool plain_v4 = socket->family == AF_INET;
	const struct socket_peer peer = {
		.address = plain_v4 ? mapped_v4(socket->peer.words[0]) : socket->peer,
		.port = socket->peer_port,
	};

	return same_peer(&peer, backend);
}

/* TCP may drain while its backend says so; UDP has no end that would be waited for. */
static __always_inline bool is_dead(const struct translation *to, __u16 protocol)
{
	const struct chosen chosen = { to->backend_index, to->generation };
	const __u16 state = backend_state(chosen, to->service_index, is_mapped_v4(&to->backend.address));

	return state == BACKEND_GONE || (protocol == IPPROTO_UDP && state != BACKEND_VALID);
}

SEC("iter/bpf_sk_storage_map")
int dead_sockets(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	const struct translation *to = ctx->value;
	struct sock *sk = ctx->sk;
	struct dead_socket out = {};

	if (!sk || !to || READ_ONCE(to->state) < TRANSLATION_READY || !is_dead(to, sk->sk_protocol))
		return 0;
	out.family = sk->__sk_common.skc_family;
	if (out.family == AF_INET) {
		out.source.words[0] = sk->__sk_common.skc_rcv_saddr;
		out.peer.words[0] = sk->__sk_common.skc_daddr;
	} else {
		copy_address(&out.source, &sk->__sk_common.skc_v6_rcv_saddr);
		copy_address(&out.peer, &sk->__sk_common.skc_v6_daddr);
	}
	out.source_port = __builtin_bswap16(sk->__sk_common.skc_num);
	out.peer_port = sk->__sk_common.skc_dport;
	if (!is_peer(&out, &to->backend))
		return 0;
	out.netns_cookie = sk->__sk_common.skc_net.net->net_cookie;
	out.cookie = bpf_get_socket_cookie(sk);
	out.device = sk->__sk_common.skc_bound_dev_if;
	out.protocol = sk->sk_protocol;
	bpf_seq_write(ctx->meta->seq, &out, sizeof(out));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
