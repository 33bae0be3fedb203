// SPDX-License-Identifier: Apache-2.0
/* What drive.bpf.c does before each call of the program that is measured. Shared with C++, which maps it. */
#pragma once

#include <linux/types.h>

#define DRIVE_FRAME 96

enum drive_target {
  DRIVE_PROGRAM, /* the one measured */
  DRIVE_NOTHING, /* one that only returns: what the driving costs */
  DRIVE_TARGETS,
};

/*
 * Flows are numbers below `mask` + 1; `stride` is odd, so that every flow comes once before any comes again. A flow's
 * low 15 bits are added to the port at `low_at` of the frame, the others to the port at `high_at`.
 */
struct drive {
  __u8 frame[DRIVE_FRAME];
  __u32 target; /* enum drive_target */
  __u32 next;
  __u32 stride;
  __u32 mask;
  __u32 low_at;
  __u32 high_at;
  __u16 low_port; /* host order, as is high_port */
  __u16 high_port;
};
