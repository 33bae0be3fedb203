// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/volumes/mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <ranges>

#include "agent/base/atomic_file.h"

namespace fairlead::pods {

namespace {

// mountinfo writes blanks and backslashes as \ and three octal digits.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

std::vector<std::string> mounts_under(std::string_view mountinfo, const std::string& path) {
  std::vector<std::string> found;
  for (const auto line : mountinfo | std::views::split('\n')) {
    // ID PARENT MAJOR:MINOR ROOT MOUNTPOINT …
    auto fields = std::string_view(line) | std::views::split(' ') | std::views::drop(4);
    if (fields.begin() == fields.end()) continue;
    std::string point = unescape(std::string_view(*fields.begin()));
    if (point == path || point.starts_with(path + "/")) found.push_back(std::move(point));
  }
  return found;
}

Result<bool> is_mount(int dir, const std::string& name, const std::string& shown) {
  struct statx info{};
  if (statx(dir, name.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &info) != 0) {
    return fail_errno(errno, "stat " + shown);
  }
  return (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

Result<> mount_tmpfs(const std::string& path, std::optional<std::int64_t> size, unsigned long flags) {
  FL_LET(const bool mounted, is_mount(AT_FDCWD, path, path));
  if (mounted) return {};
  const std::string options = size ? fmt::format("size={}", *size) : "";
  if (mount("tmpfs", path.c_str(), "tmpfs", flags, options.c_str()) != 0) {
    return fail_errno(errno, fmt::format("mount tmpfs {}", path));
  }
  return {};
}

Result<> unmount_under(const std::string& path) {
  FL_LET(const std::string mountinfo, read_file("/proc/self/mountinfo"));
  for (const auto& point : mounts_under(mountinfo, path) | std::views::reverse) {
    if (umount2(point.c_str(), UMOUNT_NOFOLLOW) == 0) continue;
    if (errno == EBUSY) return fail(Code::kUnavailable, "unmount {}: it is in use", point);
    return fail_errno(errno, "unmount " + point);
  }
  return {};
}

}  // namespace fairlead::pods
