// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/bpf_root.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace fairlead::datapath {
namespace {

// Who holds a flock on `fd`'s file, from /proc/locks; 0 where it cannot be told.
int lock_holder(int fd) {
  struct stat info{};
  if (fstat(fd, &info) != 0) return 0;
  const std::string inode = fmt::format("{:02x}:{:02x}:{}", major(info.st_dev), minor(info.st_dev), info.st_ino);
  std::ifstream locks("/proc/locks");
  // "1: FLOCK  ADVISORY  WRITE 1234 00:1c:5 0 EOF"; a waiter's line has "->" in its second column.
  for (std::string id, type, mode, kind, pid, where, rest; locks >> id >> type >> mode >> kind >> pid >> where;) {
    std::getline(locks, rest);
    if (type == "FLOCK" && where == inode) return std::atoi(pid.c_str());
  }
  return 0;
}

}  // namespace

Result<BpfRoot> BpfRoot::open(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path root = fs::absolute(path, error).lexically_normal();
  if (error) return fail_errno(error.value(), fmt::format("bpf root {}", path));

  fs::path existing = root;
  while (!fs::exists(existing, error) && existing.has_relative_path()) existing = existing.parent_path();
  struct statfs filesystem{};
  if (statfs(existing.c_str(), &filesystem) != 0) return fail_errno(errno, fmt::format("bpf root {}: statfs", path));
  if (static_cast<unsigned long>(filesystem.f_type) != BPF_FS_MAGIC) {
    return fail(Code::kInvalid,
                "bpf root {}: {} is not on a bpf filesystem; mount one (mount -t bpf bpf /sys/fs/bpf) "
                "or name a folder on one with --bpf-root",
                path, existing.string());
  }
  for (const fs::path& folder : {root / "maps", root / "links"}) {
    fs::create_directories(folder, error);
    if (error) return fail_errno(error.value(), fmt::format("bpf root: make {}", folder.string()));
  }

  UniqueFd lock(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock) return fail_errno(errno, fmt::format("bpf root {}: open", root.string()));
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail_errno(errno, fmt::format("bpf root {}: lock", root.string()));
    return fail(Code::kDenied, "bpf root {} is in use by process {}; end it, or give this agent another --bpf-root",
                root.string(), lock_holder(lock.get()));
  }
  return BpfRoot(root.string(), std::move(lock));
}

Result<> BpfRoot::clear() const {
  for (const char* folder : {"/links", "/maps", ""}) {
    std::error_code error;
    std::filesystem::remove_all(path_ + folder, error);
    if (error) return fail_errno(error.value(), fmt::format("bpf root: remove {}{}", path_, folder));
  }
  return {};
}

}  // namespace fairlead::datapath
