// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The least that joins two pods' devices: each one's packets go to the other's peer, unread. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

const volatile __u32 first, second; /* ifindexes of both host-side devices */

SEC("tc")
int join(struct __sk_buff* skb) {
  return bpf_redirect_peer(skb->ifindex == first ? second : first, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
