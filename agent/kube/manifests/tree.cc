// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/manifests/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <set>
#include <utility>

#include "agent/base/utf8.h"

namespace fairlead::kube {
namespace {

FileStamp stamp_of(const struct stat& info) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  return {info.st_dev, info.st_ino, static_cast<std::uint64_t>(info.st_size),
          info.st_mtim.tv_sec * kSecond + info.st_mtim.tv_nsec, info.st_ctim.tv_sec * kSecond + info.st_ctim.tv_nsec};
}

bool is_manifest(std::string_view name) {
  return name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json");
}

struct Walker {
  const std::string& root;
  Tree tree;
  std::set<std::pair<dev_t, ino_t>> walked;

  std::string full(const std::string& path) const { return path.empty() ? root : root + "/" + path; }

  Result<> walk(const std::string& path) {
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(full(path).c_str()), closedir);
    if (!directory) return fail_errno(errno, "read directory " + full(path));
    struct stat info{};
    if (fstat(dirfd(directory.get()), &info) != 0) return fail_errno(errno, "stat " + full(path));
    if (!walked.emplace(info.st_dev, info.st_ino).second) return {};
    tree.directories.push_back(path);
    std::vector<std::string> names;  // by name, so that of two ways to a directory always the same one is taken
    errno = 0;
    for (const dirent* entry = readdir(directory.get()); entry != nullptr; entry = readdir(directory.get())) {
      if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    }
    if (errno != 0) return fail_errno(errno, "read directory " + full(path));
    std::ranges::sort(names);
    for (const std::string& name : names) {
      const std::string child = path.empty() ? name : path + "/" + name;
      if (auto seen = look(child); !seen && seen.error().code != Code::kNotFound) {
        tree.unreadable.emplace(child, std::move(seen).error());
      }
    }
    return {};
  }

  Result<> look(const std::string& path) {
    struct stat info{};
    if (stat(full(path).c_str(), &info) != 0) return fail_errno(errno, "stat " + full(path));
    if (!S_ISDIR(info.st_mode) && !(S_ISREG(info.st_mode) && is_manifest(path))) return {};
    // Kept copies are JSON, and name their file.
    if (!is_utf8(path)) return fail(Code::kInvalid, "{}: its name is not UTF-8", full(path));
    if (S_ISDIR(info.st_mode)) return walk(path);
    tree.files.emplace(path, stamp_of(info));
    return {};
  }
};

}  // namespace

bool Tree::hides(const std::string& path) const {
  return std::ranges::any_of(
      unreadable, [&](const auto& entry) { return path == entry.first || path.starts_with(entry.first + "/"); });
}

Result<Tree> scan_tree(const std::string& root) {
  Walker walker{root, {}, {}};
  FL_TRY(walker.walk(""));
  return std::move(walker.tree);
}

Result<FileContent> read_manifest(const std::string& path, std::size_t limit) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail_errno(errno, "open " + path);
  const auto close_it = [](const int* owned) { close(*owned); };
  const std::unique_ptr<const int, decltype(close_it)> closer(&fd, close_it);
  struct stat info{};
  if (fstat(fd, &info) != 0) return fail_errno(errno, "stat " + path);
  if (!S_ISREG(info.st_mode)) return fail(Code::kInvalid, "{}: not a regular file", path);
  FileContent content{{}, stamp_of(info)};
  if (content.stamp.size > limit) {
    return fail(Code::kExhausted, "{}: {} bytes, the limit is {}", path, content.stamp.size, limit);
  }
  content.text.resize(limit + 1);
  std::size_t length = 0;
  for (;;) {
    const ssize_t count = read(fd, content.text.data() + length, content.text.size() - length);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "read " + path);
    length += static_cast<std::size_t>(count);
    if (length > limit) return fail(Code::kExhausted, "{}: grew over the limit of {} bytes", path, limit);
    if (count == 0) break;
  }
  content.text.resize(length);
  return content;
}

}  // namespace fairlead::kube
