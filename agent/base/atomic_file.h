// SPDX-License-Identifier: Apache-2.0
// Files that hold state over restarts: read whole, written whole or not at all.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace fairlead {

// Replaces `path` by a file of `contents`, mode 0600: written beside it (PATH.tmp), synced, renamed over it, and the
// folder synced. After a crash at any moment `path` is the old file or the new one. One writer a path. Blocks for the
// disk: milliseconds. Errors name the path and the call.
Result<> write_atomically(const std::string& path, std::string_view contents);

// The whole file. kNotFound where there is none.
Result<std::string> read_file(const std::string& path);

}  // namespace fairlead
