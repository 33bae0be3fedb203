// SPDX-License-Identifier: Apache-2.0
// The spool of the CNI plugin: DELs that no agent was there to take, in RUN_DIR/cni-spool. The plugin writes a file for
// each and tells the runtime that all is done; the agent carries them out. Its order among other requests is told by
// its time. Shared by fairlead-cni and agent/network.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace fairlead {

// CNI spec 1.1, section 2: what CNI_CONTAINERID may be (and no longer than 128 bytes), and CNI_IFNAME.
bool is_container_id(const std::string& text);
bool is_interface_name(const std::string& text);

// Nanoseconds since the machine's start, sleep included (CLOCK_BOOTTIME): the same for every process of a boot.
std::int64_t boot_time_ns();
// Tells one boot from another; empty where the kernel does not say.
std::string boot_id();

struct SpooledDel {
  std::string container;
  std::string ifname;
  std::int64_t asked_ns = 0;  // boot_time_ns() when the runtime asked
  std::string path;           // the file, to be removed once it is carried out
};

// Writes one, whole or not at all; makes the folder where there is none. Errors name the file.
Result<> spool_del(const std::string& run_dir, const std::string& container, const std::string& ifname,
                   std::int64_t asked_ns);

struct Spool {
  std::vector<SpooledDel> dels;         // oldest first
  std::vector<std::string> unreadable;  // files that are no such record, or are of an earlier boot
};
// No folder is an empty spool. Costs a look into the folder where it is empty.
Result<Spool> read_spool(const std::string& run_dir);

}  // namespace fairlead
