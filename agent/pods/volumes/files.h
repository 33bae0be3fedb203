// SPDX-License-Identifier: Apache-2.0
// Folders, by descriptors: nothing here follows a symlink that a container may have laid.
#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"

namespace fairlead::pods {

// Whether `name` can stand as one component of a path.
bool is_plain_name(std::string_view name);

// The names in the open folder `dir`, without "." and ".."; `path` is for errors.
Result<std::vector<std::string>> list_names(int dir, const std::string& path);

// Removes `name` in `dir` and all below it. A mount anywhere below ends it with kConflict: nothing on another
// filesystem, or bound from elsewhere, is ever removed. Absent is done.
Result<> remove_tree(int dir, const std::string& path, const std::string& name);

// Makes the folders of `path` that are absent, with `mode`.
Result<> make_folders(const std::string& path, unsigned mode);

}  // namespace fairlead::pods
