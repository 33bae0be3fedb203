// SPDX-License-Identifier: Apache-2.0
// BpfRoot: the folder on bpffs where an agent's maps and links are pinned, and the lock that makes it one agent's.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace fairlead::datapath {

// Owner: main, for the life of the agent; everything that pins takes a reference. Immutable once open: any thread.
// The lock is a flock on the folder, so it ends with the process, however that ends; the pins stay.
class BpfRoot {
 public:
  // Makes `path` with maps/ and links/ below it, and locks it. `path` is on a bpffs (its parent, where it does not
  // exist yet). kDenied where another process holds it; the error names its pid as this pid namespace sees it.
  static Result<BpfRoot> open(const std::string& path);

  // Takes every pin away, links first: what no other holds ends. For `fairlead-agent cleanup`.
  Result<> clear() const;

  const std::string& path() const { return path_; }
  // Where the map or link `name` is pinned.
  std::string map_path(std::string_view name) const { return fmt::format("{}/maps/{}", path_, name); }
  std::string link_path(std::string_view name) const { return fmt::format("{}/links/{}", path_, name); }

 private:
  BpfRoot(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  std::string path_;
  UniqueFd lock_;
};

}  // namespace fairlead::datapath
