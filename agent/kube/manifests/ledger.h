// SPDX-License-Identifier: Apache-2.0
// Ledger: what each manifest file says, and what of it is in force. Pure bookkeeping, without I/O: keeps the last good
// version of what went bad, and lets one file alone speak for an object.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/kube/manifests/object.h"

namespace fairlead::kube {

// Owner and thread: the manifest source's. Files are named by their path under the directory.
class Ledger {
 public:
  struct File {
    std::vector<ManifestObject> objects;  // good, kept ones included
    std::vector<ManifestRefusal> refusals;
  };

  // The file was read anew. Objects that are refused now keep their last good version; so does everything that the file
  // had, where it cannot be cut into objects or an object does not say who it is.
  void update(const std::string& path, ManifestContent content);
  // The file is gone, and its objects with it.
  void remove(const std::string& path) { files_.erase(path); }
  // Before the first scan: what was in force in an earlier run.
  void restore(const std::string& path, std::vector<ManifestObject> objects);

  // An object that two files name belongs to the one that had it, else to the first by path.
  struct InForce {
    const ManifestObject* object;
    const std::string* path;
  };
  struct Duplicate {
    const ManifestObject* object;
    const std::string* path;
    std::string owner;  // path of the file whose object is in force
  };
  // Settles who speaks for what. The pointers hold until the next update, remove or restore.
  void settle();
  const std::map<std::string, InForce>& in_force() const { return in_force_; }  // by ManifestPlace::key()
  const std::vector<Duplicate>& duplicates() const { return duplicates_; }
  const std::map<std::string, File>& files() const { return files_; }

 private:
  std::map<std::string, File> files_;
  std::map<std::string, std::string> owners_;  // key → path
  std::map<std::string, InForce> in_force_;
  std::vector<Duplicate> duplicates_;
};

}  // namespace fairlead::kube
