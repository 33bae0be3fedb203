// SPDX-License-Identifier: Apache-2.0
#include "test/kit/cgroup.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

namespace fairlead::testkit {
namespace {

Result<> move_to(const std::string& cgroup) {
  std::ofstream procs(cgroup + "/cgroup.procs");
  procs << getpid() << std::flush;
  if (!procs) return fail(Code::kSystem, "cgroup {}: move process {} there", cgroup, getpid());
  return {};
}

}  // namespace

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

}  // namespace fairlead::testkit
