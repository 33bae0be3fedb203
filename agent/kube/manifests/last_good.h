// SPDX-License-Identifier: Apache-2.0
// LastGood: the kept copies of manifests, one file a manifest, so that a manifest that is bad while the agent restarts
// keeps its last good version in force.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/kube/manifests/object.h"

namespace fairlead::kube {

// Owner and thread: ManifestSource. Files are written atomically, readable by their owner only: Secrets are in them.
class LastGood {
 public:
  // `folder`: where the copies live; `manifests`: the directory they are of. Copies of another directory do not count.
  LastGood(std::string folder, std::string manifests);

  // What an earlier run kept, by path. A copy that cannot be read, or an object that is no longer valid, is left out
  // and logged.
  std::map<std::string, std::vector<ManifestObject>> load(const ManifestReader& reader);

  // Keeps these as the objects of `path`, in place of what was kept; writes only what changed. None: drops the copy.
  Result<> keep(const std::string& path, const std::vector<const ManifestObject*>& objects);

  // The copies there are, by path.
  const std::map<std::string, std::string>& kept() const { return kept_; }

 private:
  std::string file_of(const std::string& path) const;

  std::string folder_;
  std::string manifests_;
  std::map<std::string, std::string> kept_;  // path → the copy's text
};

}  // namespace fairlead::kube
