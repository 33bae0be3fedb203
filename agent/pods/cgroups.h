// SPDX-License-Identifier: Apache-2.0
// Pods' parent cgroups: the runtime makes what is inside them, nobody else makes or removes them.
#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"

namespace fairlead::pods {

// Owner and thread: the pods domain's loop; each call is a few mkdir or rmdir. Stateless but for the roots.
class Cgroups {
 public:
  // `roots`: the hierarchies' mount points ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"), or the one of cgroup2.
  explicit Cgroups(std::vector<std::string> roots) : roots_(std::move(roots)) {}
  // Every hierarchy that /proc/self/mountinfo's `text` names, v1, cgroup2, or both.
  static std::vector<std::string> find_roots(std::string_view mountinfo);

  // Makes `parent` ("/kubepods/burstable/pod…") with its ancestors in every hierarchy; on cgroup2 hands controllers
  // down where there are any. What is there already stays. A hierarchy that refuses is an error that names it.
  Result<> create(const std::string& parent) const;
  // Removes `parent` and what is left beneath it, leaves first. kUnavailable: processes were still in it; they are
  // killed, and it can be removed once they are gone.
  Result<> remove(const std::string& parent) const;

 private:
  std::vector<std::string> roots_;
};

}  // namespace fairlead::pods
