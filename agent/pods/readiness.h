// SPDX-License-Identifier: Apache-2.0
// Readiness: which containers' readiness and startup probes are in success, kept over restarts of the agent, so that
// readiness never regresses because the agent did.
#pragma once

#include <map>
#include <set>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/result.h"

namespace fairlead::pods {

// Owner: Pods; thread: its loop. File: {"version": 1, "ready": [container id], "started": [container id]}.
class Readiness {
 public:
  // Takes up what `path` remembers; a missing file is an empty one, a broken one is logged. `now`: of the wall.
  Readiness(std::string path, WallTime now);

  // Before a running container is asked about. Where the file was broken, what ran by then is taken as it most probably
  // was, through its probes: what was in force stays in force, and the next probe corrects it.
  void adopt(const std::string& container_id, WallTime started);
  bool was_ready(const std::string& container_id) const { return ready_.contains(container_id); }
  bool was_started(const std::string& container_id) const { return started_.contains(container_id); }
  // Each remembers, and writes the file where that is news.
  void set(const std::string& container_id, bool ready) { put(ready_, container_id, ready); }
  void set_started(const std::string& container_id, bool started) { put(started_, container_id, started); }
  // Forgets all but these: what vanished while no agent ran.
  void keep_only(const std::set<std::string>& container_ids);

 private:
  void put(std::set<std::string>& ids, const std::string& id, bool in);
  void write() const;

  std::string path_;
  std::set<std::string> ready_;
  std::set<std::string> started_;
  WallTime forgotten_until_;       // of what started before, nothing is known; the epoch: all is known
  std::set<std::string> adopted_;  // of these, once
};

}  // namespace fairlead::pods
