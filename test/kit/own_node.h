// SPDX-License-Identifier: Apache-2.0
// A process that is a node of its own: what tests of whole programs, and benchmarks, run in.
#pragma once

#include <functional>
#include <string>

namespace fairlead::testkit {

inline constexpr auto kNodeV4 = "192.168.77.2";
inline constexpr auto kNodeV6 = "fd00:77::2";
inline constexpr auto kCgroup2 = "/sys/fs/cgroup/unified";

// Runs `body` in a child that is the first process of its own PID, mount and network namespaces and sits in a cgroup
// of its own: lo has the node's addresses, and however the child or this process ends, its processes, mounts and
// devices end with it and its cgroups are removed. Call from main(), before threads. The result is the exit status.
int run_as_node(const std::function<int()>& body);

// The node's cgroup, in such a child: its path under each hierarchy.
std::string node_cgroup();

}  // namespace fairlead::testkit
