// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/volumes/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "agent/base/unique_fd.h"
#include "agent/pods/volumes/mounts.h"

namespace fairlead::pods {

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= NAME_MAX && !name.contains('/') &&
         !name.contains('\0');
}

Result<std::vector<std::string>> list_names(int dir, const std::string& path) {
  UniqueFd fd(openat(dir, ".", O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "open " + path);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd.get()), closedir);
  if (!stream) return fail_errno(errno, "opendir " + path);
  (void)fd.release();  // the stream's now
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return fail_errno(errno, "readdir " + path);
  return names;
}

Result<> remove_tree(int dir, const std::string& path, const std::string& name) {
  const std::string shown = path + "/" + name;
  struct stat info{};
  if (fstatat(dir, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(errno, "stat " + shown);
  }
  FL_LET(const bool mounted, is_mount(dir, name, shown));
  if (mounted) return fail(Code::kConflict, "remove {}: it is a mount", shown);
  if (S_ISDIR(info.st_mode)) {
    const UniqueFd fd(openat(dir, name.c_str(), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return fail_errno(errno, "open " + shown);
    FL_LET(const auto names, list_names(fd.get(), shown));
    for (const auto& child : names) FL_TRY(remove_tree(fd.get(), shown, child));
  }
  if (unlinkat(dir, name.c_str(), S_ISDIR(info.st_mode) ? AT_REMOVEDIR : 0) != 0 && errno != ENOENT) {
    return fail_errno(errno, "remove " + shown);
  }
  return {};
}

Result<> make_folders(const std::string& path, unsigned mode) {
  for (auto slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (mkdir(part.c_str(), mode) != 0 && errno != EEXIST) return fail_errno(errno, "mkdir " + part);
    if (slash == std::string::npos) return {};
  }
}

}  // namespace fairlead::pods
