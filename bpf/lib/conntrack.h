/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connections: finding a packet's, moving it, beginning one. An established packet costs the one hash of its key, a
 * bucket of the index, sometimes a second one, and its slot.
 */
#pragma once

#include "bpf/abi/policy.h"
#include "bpf/lib/ct_slots.h"
#include "bpf/lib/ct_state.h"
#include "bpf/lib/endpoint.h"

/* How a packet looks beside its connection: docs/packet-path.md, Connections. */
enum ct_form {
	FORM_NONE = 0, /* there is no connection */
	FORM_ORIGINAL = 1,
	FORM_REPLY = 2,
	FORM_ORIGINAL_DONE = 3, /* translated before */
	FORM_REPLY_DONE = 4,
	FORM_FOREIGN = 5, /* the key is of another connection */
	FORM_BUSY = 6,    /* another processor is ending the connection right now */
};

/* Whether an entry leads to this use of a slot, by the slot's tag. */
static __always_inline bool is_of_entry(__u32 tag, __u64 entry)
{
	return (tag >> CT_LIFE_BITS & 0xff) == CT_ENTRY_GENERATION(entry);
}

/* A connection as a packet found it. */
struct connection {
	struct ct_head *head;
	__u32 index;
	__u32 tag;
	__u32 form; /* enum ct_form */
	__u64 hash; /* of the packet's key */
};

/* What a packet is to look like. */
struct rewrite {
	struct ipv6_address source;
	struct ipv6_address destination;
	__be16 source_port;
	__be16 destination_port;
};

static __always_inline bool is_same_v4(__be32 a, const struct ipv6_address *b)
{
	return a == b->words[3];
}

static __always_inline bool is_same_v6(const struct ipv6_address a, const struct ipv6_address *b)
{
	return same_v6(&a, b);
}

static __always_inline void set_v4(struct ipv6_address *to, __be32 address)
{
	to->words[3] = address;
}

static __always_inline void set_v6(struct ipv6_address *to, struct ipv6_address address)
{
	*to = address;
}

static __always_inline bool same_end(const struct ipv6_address *a, const struct ipv6_address *b, bool is_v4)
{
	return is_v4 ? a->words[3] == b->words[3] : same_v6(a, b);
}

/* For each family: which form the packet has beside the slot, and what it becomes by the slot. */
#define CT_FAMILY(family)                                                                                         \
	static __always_inline bool goes_##family(const struct ct_slot_##family *s, const struct packet *p,       \
						  bool reply, bool outer)                                         \
	{                                                                                                         \
		if (outer)                                                                                        \
			return reply ? is_same_##family(s->to, &p->source) && s->to_port == p->source_port &&     \
					       is_same_##family(s->from, &p->destination) &&                      \
					       s->from_port == p->destination_port                                \
				     : is_same_##family(s->from, &p->source) && s->from_port == p->source_port && \
					       is_same_##family(s->to, &p->destination) &&                        \
					       s->to_port == p->destination_port;                                 \
		return reply ? is_same_##family(s->server, &p->source) && s->server_port == p->source_port &&     \
				       is_same_##family(s->client, &p->destination) &&                            \
				       s->client_port == p->destination_port                                      \
			     : is_same_##family(s->client, &p->source) && s->client_port == p->source_port &&     \
				       is_same_##family(s->server, &p->destination) &&                            \
				       s->server_port == p->destination_port;                                     \
	}                                                                                                         \
                                                                                                                  \
	static __always_inline void to_server_##family(const struct ct_slot_##family *s, struct rewrite *to)      \
	{                                                                                                         \
		set_##family(&to->source, s->from);                                                               \
		set_##family(&to->destination, s->to);                                                            \
		to->source_port = s->from_port;                                                                   \
		to->destination_port = s->to_port;                                                                \
	}                                                                                                         \
                                                                                                                  \
	static __always_inline void to_client_##family(const struct ct_slot_##family *s, struct rewrite *to)      \
	{                                                                                                         \
		set_##family(&to->source, s->server);                                                             \
		set_##family(&to->destination, s->client);                                                        \
		to->source_port = s->server_port;                                                                 \
		to->destination_port = s->client_port;                                                            \
	}                                                                                                         \
                                                                                                                  \
	/* A new connection's ends; untranslated where `to` is the packet as it came. */                          \
	static __always_inline void fill_##family(struct ct_slot_##family *s, const struct packet *p,             \
						  const struct rewrite *to)                                       \
	{                                                                                                         \
		struct ipv6_address address = p->source;                                                          \
                                                                                                                  \
		copy_##family(&s->client, &address);                                                              \
		address = p->destination;                                                                         \
		copy_##family(&s->server, &address);                                                              \
		s->client_port = p->source_port;                                                                  \
		s->server_port = p->destination_port;                                                             \
		copy_##family(&s->from, &to->source);                                                             \
		copy_##family(&s->to, &to->destination);                                                          \
		s->from_port = to->source_port;                                                                   \
		s->to_port = to->destination_port;                                                                \
	}

static __always_inline void copy_v4(__be32 *to, const struct ipv6_address *address)
{
	*to = address->words[3];
}

static __always_inline void copy_v6(struct ipv6_address *to, const struct ipv6_address *address)
{
	*to = *address;
}

CT_FAMILY(v4)
CT_FAMILY(v6)

static __always_inline bool goes(const struct ct_head *head, const struct packet *packet, bool reply, bool outer,
				 bool is_v4)
{
	return is_v4 ? goes_v4((const void *)head, packet, reply, outer)
		     : goes_v6((const void *)head, packet, reply, outer);
}

static __always_inline void to_server(const struct ct_head *head, struct rewrite *to, bool is_v4)
{
	if (is_v4)
		to_server_v4((const void *)head, to);
	else
		to_server_v6((const void *)head, to);
}

static __always_inline void to_client(const struct ct_head *head, struct rewrite *to, bool is_v4)
{
	if (is_v4)
		to_client_v4((const void *)head, to);
	else
		to_client_v6((const void *)head, to);
}

/* The form of the packet. That of one within an ICMP error (`inner`) is looked for among the translated ones first. */
static __always_inline __u32 form_of(const struct ct_head *head, const struct packet *packet, bool inner, bool is_v4)
{
	const bool translated = head->flags & CT_TRANSLATED;

	if (inner && translated) {
		if (goes(head, packet, false, true, is_v4))
			return FORM_ORIGINAL_DONE;
		if (goes(head, packet, true, false, is_v4))
			return FORM_REPLY_DONE;
	}
	if (goes(head, packet, false, false, is_v4))
		return FORM_ORIGINAL;
	if (goes(head, packet, true, true, is_v4))
		return FORM_REPLY;
	if (translated && goes(head, packet, false, true, is_v4))
		return FORM_ORIGINAL_DONE;
	if (translated && goes(head, packet, true, false, is_v4))
		return FORM_REPLY_DONE;
	return FORM_FOREIGN;
}

/* The entry of a key, or 0. Where there are two sets, it may be moved from the old one while we look. */
static __always_inline __u64 find_key(__u64 hash, __u32 *set, bool is_v4)
{
	__u64 entry = find_entry(hash, 0, is_v4);

	if (entry || !ct_moves(is_v4))
		return entry;
	entry = find_entry(hash, CT_OLD, is_v4);
	if (!entry)
		return find_entry(hash, 0, is_v4);
	*set = CT_OLD;
	return entry;
}

/* One look. An entry is only believed where the slot agrees with it and with the packet. */
static __always_inline void look(struct connection *found, const struct packet *packet, bool inner, bool is_v4)
{
	__u32 life, set = 0;
	const __u64 entry = find_key(found->hash, &set, is_v4);

	found->form = FORM_NONE;
	if (!entry)
		return;
	found->index = CT_ENTRY_SLOT(entry) | set;
	found->head = ct_slot(found->index, is_v4);
	if (!found->head)
		return;
	found->tag = READ_ONCE(found->head->tag);
	life = found->tag & CT_LIFE_MASK;
	if (!is_of_entry(found->tag, entry) || life <= CT_FILLING || life == CT_DYING)
		found->form = FORM_BUSY;
	else
		found->form = form_of(found->head, packet, inner, is_v4);
}

static __always_inline bool is_expired(const struct connection *found)
{
	return (found->tag & CT_LIFE_MASK) == CT_CONDEMNED || is_past(READ_ONCE(found->head->deadline), jiffies32());
}

/* Finds the packet's connection. What is past its deadline is absent, and ended on the way (errors move nothing). */
static __always_inline void find_connection(struct connection *found, const struct packet *packet, bool inner,
					    bool is_v4)
{
	found->hash = ct_hash(&packet->source, packet->source_port, &packet->destination, packet->destination_port,
			      packet->protocol, is_v4);
	/* What does not fit may have been seen while it changed. */
	for (int i = 0; i < 2; i++) {
		look(found, packet, inner, is_v4);
		if (found->form < FORM_FOREIGN)
			break;
	}
	if (found->form == FORM_NONE || found->form == FORM_BUSY || !is_expired(found))
		return;
	found->form = inner || end_connection(found->index, found->tag, is_v4) ? FORM_NONE : FORM_BUSY;
}

/* Whether the backend that the connection went to serves it no more: `strictly` also where it only drains. */
static __always_inline bool is_backend_gone(const struct ct_head *head, bool strictly, bool is_v4)
{
	const struct chosen chosen = { head->backend, head->backend_generation };
	const __u32 state = backend_state(chosen, head->service, is_v4);

	return strictly ? state != BACKEND_VALID : state == BACKEND_GONE;
}

/* The state and its neighbours as one word, which is swapped where it changes: both directions may move it at once. */
static __always_inline __u8 move(struct ct_head *head, const struct packet *packet, __u8 direction)
{
	__u32 *word = (__u32 *)&head->state;

	for (int i = 0; i < 2; i++) {
		const __u32 before = READ_ONCE(*word);
		const struct progress at = { before, before >> 24 };
		const struct progress to = move_connection(at, packet, direction);
		const __u32 after = (before & 0x00ffff00) | to.state | (__u32)to.closer << 24;

		if (after == before || __sync_val_compare_and_swap(word, before, after) == before)
			return to.state;
	}
	return head->state;
}

/* Moves the connection by a packet of form 1 or 2. False: it was reclaimed just now. */
static __always_inline bool advance(const struct connection *found, const struct packet *packet)
{
	const __u8 direction = found->form == FORM_REPLY ? CT_REPLY : CT_ORIGINAL;
	struct ct_head *head = found->head;
	__u32 deadline;

	if (direction == CT_REPLY && (found->tag & CT_LIFE_MASK) == CT_NEW &&
	    !change_tag(head, found->tag, (found->tag & ~CT_LIFE_MASK) | CT_ANSWERED) &&
	    READ_ONCE(head->tag) != ((found->tag & ~CT_LIFE_MASK) | CT_ANSWERED))
		return false;
	deadline = jiffies32() + timeout_of(move(head, packet, direction));
	if (READ_ONCE(head->deadline) != deadline)
		head->deadline = deadline;
	return true;
}

/* The Service's part of a new connection. */
struct chosen_service {
	__u32 service; /* 0: none */
	__u32 backend;
	__u32 generation;
};

/* What was found of a new connection before it has a slot. */
struct admission {
	__u32 generation[2]; /* [enum policy_direction]: of the rules that allowed it; 0: none were asked */
	__u8 flags;          /* enum ct_flags */
	__u8 pad[3];
};

static __always_inline __u32 *judged_of(struct ct_head *head, bool is_v4)
{
	return is_v4 ? ((struct ct_slot_v4 *)head)->judged : ((struct ct_slot_v6 *)head)->judged;
}

/* Whether the connection that an entry of the set leads to is over, or expired, so that another may have the key. */
static __always_inline bool makes_room(__u64 entry, __u32 set, struct connection *other, bool is_v4)
{
	other->index = CT_ENTRY_SLOT(entry) | (ct_is_old(set, is_v4) ? CT_OLD : 0);
	other->head = ct_slot(other->index, is_v4);
	if (!other->head)
		return false;
	other->tag = READ_ONCE(other->head->tag);
	return is_of_entry(other->tag, entry) && (other->tag & CT_LIFE_MASK) >= CT_NEW &&
	       (other->tag & CT_LIFE_MASK) != CT_DYING && (is_expired(other) || is_over(other->head->state));
}

/* Has a key's holder in the set make room for another: false where it goes on. */
static __always_inline bool clear_key(__u64 entry, __u32 set, bool is_v4)
{
	struct connection other;

	return makes_room(entry, set, &other, is_v4) && end_connection(other.index, other.tag, is_v4);
}

/* Takes a key for a slot: 0; -EEXIST where another connection has it; -ENOSPC. One that is over makes room. */
static __always_inline long take_key(__u64 hash, __u32 index, __u32 generation, bool is_v4)
{
	__u64 held;

	/* What is in the other set has its keys as well. */
	if (ct_moves(is_v4)) {
		held = find_entry(hash, ~index, is_v4);
		if (held && !clear_key(held, ~index, is_v4))
			return -EEXIST;
	}
	held = add_entry(hash, index, generation, is_v4);
	if (held > CT_FULL && clear_key(held, index, is_v4))
		held = add_entry(hash, index, generation, is_v4);
	return held > CT_FULL ? -EEXIST : held ? -ENOSPC : 0;
}

/* Gives back a slot whose keys were not to be had. Who found it by its reverse key meanwhile finds it gone. */
static __always_inline void discard(const struct connection *lost, __u32 generation, bool is_v4)
{
	const __u32 dying = make_tag(generation, CT_DYING);

	if (change_tag(lost->head, make_tag(generation, CT_FILLING), dying) ||
	    change_tag(lost->head, make_tag(generation, CT_NEW), dying) ||
	    change_tag(lost->head, make_tag(generation, CT_ANSWERED), dying))
		give_back(lost->head, lost->index, is_v4);
}

/*
 * Begins the packet's connection (made->hash: of the packet's key), which leaves as `to` says (`translated`: not as it
 * came): 0; -EEXIST: another has one of its keys; -ENOSPC: full. The slot is whole before a key leads to it, and its
 * owner alone ends it where it loses.
 */
static __always_inline int insert_connection(struct connection *made, const struct packet *packet,
					     const struct rewrite *to, const struct chosen_service *by,
					     const struct admission *admission, bool translated, bool is_v4)
{
	struct ct_head *head;
	__u32 generation, *judged;
	const __u64 forward = made->hash;
	__u64 reverse;
	long result = 0;

	head = take_slot(&made->index, ct_target(is_v4), is_v4);
	if (!head) {
		ct_count(CT_REFUSED);
		return -ENOSPC;
	}
	generation = head->tag >> CT_LIFE_BITS;
	head->created = jiffies32();
	head->state = first_state(packet, is_v4);
	head->protocol = packet->protocol;
	head->flags = admission->flags | (translated ? CT_TRANSLATED : 0);
	head->closer = 0;
	head->deadline = head->created + timeout_of(head->state);
	head->service = by->service;
	head->backend = by->backend;
	head->backend_generation = by->generation;
	head->endpoints[CT_ORIGINAL] = 0;
	head->endpoints[CT_REPLY] = 0;
	judged = judged_of(head, is_v4);
	judged[POLICY_INGRESS] = CT_JUDGED(admission->generation[POLICY_INGRESS], head->tag);
	judged[POLICY_EGRESS] = CT_JUDGED(admission->generation[POLICY_EGRESS], head->tag);
	if (is_v4)
		fill_v4((void *)head, packet, to);
	else
		fill_v6((void *)head, packet, to);
	made->head = head;
	made->tag = make_tag(generation, CT_NEW);
	made->form = FORM_ORIGINAL;
	if (translated) {
		reverse = reverse_hash(head, is_v4);
		result = take_key(reverse, made->index, generation, is_v4);
	}
	if (!result) {
		__sync_lock_test_and_set(&head->tag, made->tag);
		result = take_key(forward, made->index, generation, is_v4);
		if (result && translated)
			remove_entry(reverse, made->index, generation, is_v4);
		if (!result && !lives_on(head, generation))
			remove_entry(forward, made->index, generation, is_v4);
	}
	if (result) {
		discard(made, generation, is_v4);
		ct_count(result == -EEXIST ? CT_LOST : CT_REFUSED);
		return result == -EEXIST ? -EEXIST : -ENOSPC;
	}
	enter_ring(made->index, generation, is_v4);
	ct_count(is_v4 ? CT_CREATED_V4 : CT_CREATED_V6);
	if (by->service)
		connection_opened(by->backend, by->generation, is_v4);
	if (translated)
		ct_count(CT_TRANSLATED_ONES);
	return 0;
}
