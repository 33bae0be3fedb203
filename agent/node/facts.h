// SPDX-License-Identifier: Apache-2.0
// What the machine is: the facts that a Node object reports.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "agent/node/conditions.h"

namespace fairlead::node {

struct MachineFacts {
  unsigned cpus = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t swap_bytes = 0;
  std::uint64_t disk_bytes = 0;                     // of the file system that holds the state
  std::map<std::string, std::uint64_t> huge_pages;  // page size ("2Mi") → bytes set aside
  std::string machine_id, system_uuid, boot_id;
  std::string kernel_version, os_image, architecture;  // architecture in Go's words: amd64, arm64
};

// Reads /proc, /sys and /etc; a fact that is not to be had stays empty. `state_dir` tells which disk counts.
MachineFacts read_machine_facts(const std::string& state_dir);

// Measures now. Limits: 100 Mi of memory; a tenth of the disk or a twentieth of its inodes; a twentieth of the pids.
Pressures read_pressures(const std::string& state_dir);

}  // namespace fairlead::node
