// SPDX-License-Identifier: Apache-2.0
// DeviceHook: a program at a network device's ingress or egress.
#pragma once

#include <cstdint>
#include <set>

#include "agent/base/result.h"
#include "agent/datapath/bpf_root.h"

struct bpf_program;

namespace fairlead::datapath {

// A program's place on a device. By TCX where the kernel has it, beside programs of others: a link, pinned in the root
// below the program's name and the ifindex, which outlives the agent. Else (before Linux 6.6) a clsact filter, which
// its device holds. Cost: 8 ms and 0.3 ms.
struct DeviceHook {
  std::uint32_t ifindex = 0;
  bool egress = false;
  const bpf_program* program = nullptr;  // loaded
};

// Puts the program there; in place of the same one of an earlier load, atomically.
Result<> attach_hook(const DeviceHook& hook, const BpfRoot& root);
// Whether exactly this load's program is there.
Result<bool> is_attached(const DeviceHook& hook, const BpfRoot& root);
// Devices, by ifindex, at which a link of any load's program of this name is pinned; some may be gone by now.
Result<std::set<std::uint32_t>> devices_with(const bpf_program* program, const BpfRoot& root);
// Whether there is a clsact filter of ours, of whichever load and program.
Result<bool> has_filter(const DeviceHook& hook);
// Takes it away, whichever load it is of. Nothing there, or no such device any more: success.
Result<> detach_hook(const DeviceHook& hook, const BpfRoot& root);

}  // namespace fairlead::datapath
