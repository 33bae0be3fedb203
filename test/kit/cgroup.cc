// SPDX-License-Identifier: Apache-2.0
#include "test/kit/cgroup.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

namespace fairlead::testkit {
namespace {

namespace fs = std::filesystem;

Result<> move_to(const std::string& cgroup) {
  std::ofstream procs(cgroup + "/cgroup.procs");
  procs << getpid() << std::flush;
  if (!procs) return fail(Code::kSystem, "cgroup {}: move process {} there", cgroup, getpid());
  return {};
}

std::vector<fs::path> children(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (at->is_directory(error)) found.push_back(at->path());
  }
  return found;
}

// Leaves first; a cgroup's files are the kernel's.
void remove_cgroup(const fs::path& path) {
  for (const fs::path& child : children(path)) remove_cgroup(child);
  rmdir(path.c_str());
}

}  // namespace

std::vector<fs::path> cgroups_named(const std::string& name) {
  std::vector<fs::path> found;
  for (const fs::path& hierarchy : children("/sys/fs/cgroup")) {
    if (fs::is_directory(hierarchy / name)) found.push_back(hierarchy / name);
  }
  return found;
}

void remove_cgroups_named(const std::string& name) {
  for (const fs::path& path : cgroups_named(name)) remove_cgroup(path);
}

Result<TestCgroup> TestCgroup::make(const std::string& root, const std::string& name) {
  const std::string path = fmt::format("{}/fl-{}-{}", root, name, getpid());
  if (mkdir(path.c_str(), 0755) != 0) return fail_errno(errno, fmt::format("cgroup {}: mkdir", path));
  return TestCgroup(root, path);
}

TestCgroup::~TestCgroup() {
  if (path_.empty()) return;
  (void)move_to(root_);
  rmdir(path_.c_str());
}

Result<> TestCgroup::enter() const {
  return move_to(path_);
}

Result<> TestCgroup::leave() const {
  return move_to(root_);
}

}  // namespace fairlead::testkit
