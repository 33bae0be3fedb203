// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/volumes/sub_path.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "agent/pods/volumes/files.h"
#include "agent/pods/volumes/mounts.h"

namespace fairlead::pods {

namespace {

UniqueFd open_beneath(int root, const std::string& path) {
  const open_how how{.flags = O_PATH | O_CLOEXEC, .mode = 0, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
  return UniqueFd(static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
}

// A folder `name` in `parent` of exactly `mode`, whatever the umask.
Result<> make_folder(int parent, const std::string& name, mode_t mode) {
  if (mkdirat(parent, name.c_str(), mode) != 0) return fail_errno(errno, "mkdir " + name);
  const UniqueFd fd(openat(parent, name.c_str(), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd || fchmod(fd.get(), mode) != 0) return fail_errno(errno, "chmod " + name);
  return {};
}

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

}  // namespace

Result<UniqueFd> open_sub_path(const std::string& root, const std::string& sub_path) {
  const std::filesystem::path path(sub_path);
  if (path.is_absolute()) return fail(Code::kInvalid, "subPath '{}' is absolute", sub_path);
  const UniqueFd top(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct stat info{};
  if (!top || fstat(top.get(), &info) != 0) return fail_errno(errno, "open " + root);
  UniqueFd at = open_beneath(top.get(), ".");
  std::string so_far = ".";
  for (const auto& part : path) {
    const std::string name = part.string();
    if (name.empty() || name == ".") continue;
    if (!is_plain_name(name)) return fail(Code::kInvalid, "subPath '{}' holds '{}'", sub_path, name);
    // From the top each time: a symlink on the way may lead anywhere below it.
    so_far += "/" + name;
    UniqueFd next = open_beneath(top.get(), so_far);
    if (!next && errno == ENOENT) {
      if (auto made = make_folder(at.get(), name, info.st_mode & 07777); !made) {
        return fail_with(std::move(made).error(), fmt::format("subPath '{}' of {}", sub_path, root));
      }
      next = open_beneath(top.get(), so_far);
    }
    if (!next && errno == EXDEV) return fail(Code::kDenied, "subPath '{}' leads out of {}", sub_path, root);
    if (!next) return fail_errno(errno, fmt::format("open subPath '{}' of {}", sub_path, root));
    at = std::move(next);
  }
  return at;
}

Result<> bind_sub_path(const std::string& root, const std::string& sub_path, const std::string& target) {
  FL_LET(const UniqueFd source, open_sub_path(root, sub_path));
  struct stat wanted{};
  if (fstat(source.get(), &wanted) != 0) return fail_errno(errno, "stat subPath " + sub_path);
  struct stat present{};
  if (lstat(target.c_str(), &present) == 0) {
    FL_LET(const bool mounted, is_mount(AT_FDCWD, target, target));
    if (mounted && same_file(wanted, present)) return {};
    FL_TRY(unmount_under(target));
    if (std::error_code error; !std::filesystem::remove(target, error)) {
      return fail_errno(error.value(), "remove " + target);
    }
  }
  if (S_ISDIR(wanted.st_mode)) {
    FL_TRY(make_folders(target, 0750));
  } else {
    FL_TRY(make_folders(std::filesystem::path(target).parent_path(), 0750));
    const UniqueFd file(open(target.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
    if (!file) return fail_errno(errno, "create " + target);
  }
  const std::string from = fmt::format("/proc/self/fd/{}", source.get());
  if (mount(from.c_str(), target.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    return fail_errno(errno, fmt::format("bind subPath '{}' of {} to {}", sub_path, root, target));
  }
  return {};
}

}  // namespace fairlead::pods
