// SPDX-License-Identifier: Apache-2.0
// Watcher: hears of changes in directories by inotify. It only says that something changed, and which files are being
// written right now; what changed is found by looking.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/base/loop.h"
#include "agent/base/result.h"

namespace fairlead::kube {

// Owner: ManifestSource; thread: its loop. Cost: one inotify instance, one watch a directory.
class Watcher {
 public:
  // `changed` runs on the loop after each batch of events that may matter.
  Watcher(Loop& loop, std::function<void()> changed);
  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  // Watches exactly these, by path; a directory that was replaced is watched anew. True: one is newly watched, and what
  // was seen in it before may be old. The first error is returned after all were tried.
  Result<bool> follow(const std::vector<std::string>& directories);

  // Files that were written to and not closed since, by path. Until they are, their content is no version of anything.
  const std::set<std::string>& being_written() const { return being_written_; }
  // Forgets that `path` is being written: its writer has been silent for too long.
  void settle(const std::string& path) { being_written_.erase(path); }

 private:
  void read_events();

  int fd_ = -1;
  Error trouble_;  // why there is no inotify, where fd_ is -1
  std::function<void()> changed_;
  std::map<int, std::string> paths_;  // watch → directory
  std::set<std::string> being_written_;
  Subscription readable_;
};

}  // namespace fairlead::kube
