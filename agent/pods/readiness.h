// SPDX-License-Identifier: Apache-2.0
// Readiness: which containers' readiness probes are in success, kept over restarts of the agent, so that readiness
// never regresses because the agent did.
#pragma once

#include <map>
#include <set>
#include <string>

#include "agent/base/result.h"

namespace fairlead::pods {

// Owner: Pods; thread: its loop. File: {"version": 1, "ready": [container id]}.
class Readiness {
 public:
  // Takes up what `path` remembers; a missing file is an empty one, a broken one is logged and forgotten.
  explicit Readiness(std::string path);

  bool was_ready(const std::string& container_id) const { return ready_.contains(container_id); }
  // Remembers, and writes the file where that is news.
  void set(const std::string& container_id, bool ready);

 private:
  std::string path_;
  std::set<std::string> ready_;
};

}  // namespace fairlead::pods
