// SPDX-License-Identifier: Apache-2.0
// Mounts of a pod's volumes. All of these block.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace fairlead::pods {

// Mount points at `path` or below it, in the order they were made, from a text like /proc/self/mountinfo.
std::vector<std::string> mounts_under(std::string_view mountinfo, const std::string& path);

// Whether `name` in `dir` is the root of a mount, a bound file or folder included; `shown` is for errors.
Result<bool> is_mount(int dir, const std::string& name, const std::string& shown);

// A tmpfs at `path`, of `size` bytes where given, unless there is a mount already.
Result<> mount_tmpfs(const std::string& path, std::optional<std::int64_t> size, unsigned long flags);

// Unmounts everything at `path` and below, the latest first. kUnavailable: something is in use; try again.
Result<> unmount_under(const std::string& path);

}  // namespace fairlead::pods
