// SPDX-License-Identifier: Apache-2.0
// subPath: a file or folder inside a volume, found without leaving it.
#pragma once

#include <string>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace fairlead::pods {

// Opens (O_PATH) `sub_path` below the folder `root`. Symlinks are followed as long as they stay below it (the kernel
// judges: RESOLVE_BENEATH); what is absent is made as folders with the mode of `root`. Refuses absolute paths and "..".
Result<UniqueFd> open_sub_path(const std::string& root, const std::string& sub_path);

// Binds what open_sub_path() finds to `target` (made as it needs be), so that a later change of a symlink does not move
// it. Again with the same file: nothing; with another one: in place of the old. Blocks.
Result<> bind_sub_path(const std::string& root, const std::string& sub_path, const std::string& target);

}  // namespace fairlead::pods
