// SPDX-License-Identifier: Apache-2.0
// The manifest directory as it stands: which files there are, and how to tell that one changed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace fairlead::kube {

// A file's version: it changes whenever the content may have.
struct FileStamp {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;  // bytes
  std::int64_t modified_ns = 0;
  std::int64_t changed_ns = 0;
  bool operator==(const FileStamp&) const = default;
};

struct Tree {
  std::map<std::string, FileStamp> files;   // .yaml, .yml and .json, by path under the root
  std::vector<std::string> directories;     // all that were walked, by path under the root; the root is ""
  std::map<std::string, Error> unreadable;  // directories and files that are there and cannot be looked at
  // Whether `path` lies under something unreadable: then nobody knows that it is gone.
  bool hides(const std::string& path) const;
};

// Walks the directory; follows symbolic links (a mounted ConfigMap is made of them), enters no directory twice, leaves
// names that start with a dot alone. An error: the root itself cannot be read.
Result<Tree> scan_tree(const std::string& root);

struct FileContent {
  std::string text;
  FileStamp stamp;
};
// Reads a regular file of at most `limit` bytes. kExhausted: it is larger.
Result<FileContent> read_manifest(const std::string& path, std::size_t limit);

}  // namespace fairlead::kube
