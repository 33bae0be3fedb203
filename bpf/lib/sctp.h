/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * SCTP's checksum, a CRC32c over the whole packet, after a change of its first four bytes (the ports). A CRC is linear:
 * it changes by the CRC of the change, moved past the bytes that follow. Moving past n bytes is a multiplication by
 * x^8n modulo the polynomial, a factor for each bit of n. Where hardware is to compute the checksum, the field is of no
 * meaning and its change does no harm.
 */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define CRC32C 0x82f63b78 /* the polynomial, reflected: bit 31 is x^0 */

/* x^(8 * 2^i) modulo the polynomial. */
static const __u32 crc_powers[16] = { 0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a,
				      0xb82be955, 0xb8fdb1e7, 0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a,
				      0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc };

static __always_inline __u32 crc_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

	for (int i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = (b >> 1) ^ (CRC32C & -(b & 1));
	}
	return product;
}

/* What to XOR the checksum (as it lies in memory) with: `change` is ports before XOR ports after, in a packet of `size`
 * bytes. A function of its own to the verifier, which looks at it once. */
__noinline __u32 sctp_checksum_change(__u32 change, __u32 size)
{
	const __u32 behind = size - 4;

	for (int i = 0; i < 32; i++)
		change = (change >> 1) ^ (CRC32C & -(change & 1));
	for (int i = 0; i < 16; i++) {
		const __u32 moved = crc_multiply(crc_powers[i], change);

		change = behind >> i & 1 ? moved : change;
	}
	return change;
}
