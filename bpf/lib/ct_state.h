/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Where a packet moves its connection: the tables of docs/packet-path.md, as functions of their rows. */
#pragma once

#include "bpf/abi/conntrack.h"
#include "bpf/lib/parse.h"

/* State and closer of a connection: what a packet may change. */
struct progress {
	__u8 state;  /* enum ct_state */
	__u8 closer; /* enum ct_direction */
};

static __always_inline struct progress move_tcp(struct progress at, __u8 signal, __u8 direction)
{
	const bool reply = direction == CT_REPLY, closer = direction == at.closer;

	if (signal == SIGNAL_ABORT)
		return (struct progress){ CT_TCP_CLOSED, direction };
	switch (at.state) {
	case CT_TCP_SYN_SENT:
		if (reply && (signal == SIGNAL_SYN_ACK || signal == SIGNAL_START))
			at.state = CT_TCP_SYN_RECV;
		break;
	case CT_TCP_SYN_RECV:
		if (!reply && (signal == SIGNAL_ACK || signal == SIGNAL_SYN_ACK))
			at.state = CT_TCP_ESTABLISHED;
		else if (signal == SIGNAL_FIN)
			at = (struct progress){ CT_TCP_FIN_WAIT, direction };
		break;
	case CT_TCP_MIDSTREAM:
		if (reply && signal == SIGNAL_ACK)
			at.state = CT_TCP_ESTABLISHED;
		else if (signal == SIGNAL_FIN)
			at = (struct progress){ CT_TCP_FIN_WAIT, direction };
		break;
	case CT_TCP_ESTABLISHED:
		if (signal == SIGNAL_FIN)
			at = (struct progress){ CT_TCP_FIN_WAIT, direction };
		break;
	case CT_TCP_FIN_WAIT:
		if (!closer && signal == SIGNAL_ACK)
			at.state = CT_TCP_CLOSE_WAIT;
		else if (!closer && signal == SIGNAL_FIN)
			at.state = CT_TCP_LAST_ACK;
		break;
	case CT_TCP_CLOSE_WAIT:
		if (!closer && signal == SIGNAL_FIN)
			at.state = CT_TCP_LAST_ACK;
		break;
	case CT_TCP_LAST_ACK:
		if (closer && signal == SIGNAL_ACK)
			at.state = CT_TCP_TIME_WAIT;
		break;
	case CT_TCP_CLOSED:
		if (closer && signal == SIGNAL_ACK)
			at.state = CT_TCP_ESTABLISHED;
		break;
	}
	return at;
}

static __always_inline struct progress move_sctp(struct progress at, __u8 signal, __u8 direction)
{
	const bool reply = direction == CT_REPLY;
	const bool opening = at.state == CT_SCTP_COOKIE_WAIT || at.state == CT_SCTP_COOKIE_ECHOED;

	if (signal == SIGNAL_ABORT)
		at.state = CT_SCTP_CLOSED;
	else if (signal == SIGNAL_COOKIE_ECHO && !reply && at.state == CT_SCTP_COOKIE_WAIT)
		at.state = CT_SCTP_COOKIE_ECHOED;
	else if (signal == SIGNAL_COOKIE_ACK && reply && opening)
		at.state = CT_SCTP_ESTABLISHED;
	else if (signal == SIGNAL_SHUTDOWN && (opening || at.state == CT_SCTP_ESTABLISHED))
		at.state = CT_SCTP_SHUTDOWN;
	return at;
}

static __always_inline struct progress move_connection(struct progress at, const struct packet *packet, __u8 direction)
{
	if (packet->fragment == FRAGMENT_LATER)
		return at;
	if (packet->protocol == IPPROTO_TCP)
		return move_tcp(at, packet->signal, direction);
	if (packet->protocol == IPPROTO_SCTP)
		return move_sctp(at, packet->signal, direction);
	if (at.state == CT_UDP_SINGLE && direction == CT_REPLY)
		at.state = CT_UDP_STREAM;
	return at;
}

/* The state of a connection that the packet begins. */
static __always_inline __u8 first_state(const struct packet *packet, bool is_v4)
{
	switch (packet->protocol) {
	case IPPROTO_TCP:
		return packet->signal == SIGNAL_START ? CT_TCP_SYN_SENT : CT_TCP_MIDSTREAM;
	case IPPROTO_UDP:
		return CT_UDP_SINGLE;
	case IPPROTO_SCTP:
		return packet->signal == SIGNAL_START ? CT_SCTP_COOKIE_WAIT : CT_SCTP_ESTABLISHED;
	default:
		return packet->protocol == (is_v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) ? CT_ICMP : CT_OTHER;
	}
}

/* Whether a connection in `state` is over for who would begin one that looks the same. */
static __always_inline bool is_over(__u8 state)
{
	return state == CT_TCP_TIME_WAIT || state == CT_TCP_CLOSED || state == CT_SCTP_CLOSED;
}

/* Whether a SYN or INIT that came `direction` begins anew where the connection is in `state`. */
static __always_inline bool begins_anew(const struct packet *packet, __u8 state, __u8 direction, bool translated)
{
	if (packet->signal != SIGNAL_START || (translated && direction == CT_REPLY))
		return false;
	return is_over(state) || state == CT_TCP_MIDSTREAM || state == CT_SCTP_SHUTDOWN;
}
