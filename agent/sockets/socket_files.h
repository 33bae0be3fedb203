// SPDX-License-Identifier: Apache-2.0
// Sockets of other processes, by their inodes.
#pragma once

#include <cstdint>
#include <functional>
#include <set>

namespace fairlead::sockets {

// Calls `visit(inode, fd)` for each of the sockets that some process holds, once each, with a descriptor of it that is
// closed afterwards. Processes that end meanwhile, and those that we may not look into, are passed over. Needs
// CAP_SYS_PTRACE and the processes' /proc. Cost: 1 µs a descriptor of the machine, until all are found.
void visit_sockets(std::set<std::uint64_t> inodes, const std::function<void(std::uint64_t, int)>& visit);

}  // namespace fairlead::sockets
