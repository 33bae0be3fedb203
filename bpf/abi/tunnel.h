/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The MAC of a node's VXLAN device, which follows from the node's address in the underlay: the two bytes below (locally
 * administered, unicast), then four that are `value`, where for each 32-bit word of the address (one of IPv4, four of
 * IPv6), in memory's order, value = value * TUNNEL_MAC_FACTOR + word.
 */
#pragma once

#define TUNNEL_MAC_FIRST 0x0a
#define TUNNEL_MAC_SECOND 0xf1
#define TUNNEL_MAC_FACTOR 0x9e3779b1
