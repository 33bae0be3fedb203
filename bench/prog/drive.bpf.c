// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Calls another program with a fresh frame each time: BPF_PROG_RUN with `repeat` does not restore the packet, so a
 * program that rewrites would see its own output.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bench/prog/drive.h"

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, DRIVE_TARGETS);
  __type(key, __u32);
  __type(value, __u32);
} targets SEC(".maps");

struct drive drive = {.stride = 1};

SEC("tc")
int drive_program(struct __sk_buff* skb) {
  const __u32 flow = drive.next * drive.stride & drive.mask;
  const __be16 low = bpf_htons(drive.low_port + (flow & 0x7fff));
  const __be16 high = bpf_htons(drive.high_port + (flow >> 15));

  drive.next++;
  bpf_skb_store_bytes(skb, 0, drive.frame, DRIVE_FRAME, 0);
  bpf_skb_store_bytes(skb, drive.low_at, &low, sizeof(low), 0);
  bpf_skb_store_bytes(skb, drive.high_at, &high, sizeof(high), 0);
  bpf_tail_call(skb, &targets, drive.target);
  return TC_ACT_UNSPEC; /* no target: the measuring program takes it for an error */
}

SEC("tc")
int nothing(struct __sk_buff* skb) {
  (void)skb;
  return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
