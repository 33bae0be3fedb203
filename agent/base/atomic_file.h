// SPDX-License-Identifier: Apache-2.0
// Files that hold state over restarts: read whole, written whole or not at all.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace fairlead {

struct WriteOptions {
  mode_t mode = 0600;
  // Survives a loss of power too. Without it, any crash of ours: enough for what does not outlive the kernel anyway.
  bool durable = true;
};

// Replaces `path` by a file of `contents`: written beside it (PATH.tmp), synced, renamed over it, and the folder
// synced. After a crash at any moment `path` is the old file or the new one. One writer a path. Blocks for the disk
// where durable: milliseconds. Errors name the path and the call.
Result<> write_atomically(const std::string& path, std::string_view contents, WriteOptions options = {});

// The whole file. kNotFound where there is none.
Result<std::string> read_file(const std::string& path);

}  // namespace fairlead
