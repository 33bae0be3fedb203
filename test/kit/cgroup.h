// SPDX-License-Identifier: Apache-2.0
// A cgroup2 of a test's own, below the machine's root and beside those of other tests.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"

namespace fairlead::testkit {

// Owner: the test. Made empty; gone with this object, which moves the process back where it was.
class TestCgroup {
 public:
  // `root`: where cgroup2 is mounted.
  static Result<TestCgroup> make(const std::string& root, const std::string& name);
  TestCgroup(TestCgroup&& other) noexcept : root_(other.root_), path_(std::exchange(other.path_, {})) {}
  TestCgroup& operator=(TestCgroup&&) = delete;
  ~TestCgroup();

  const std::string& path() const { return path_; }
  // Moves this process, with all its threads, in here: the cgroup's hooks see the sockets it makes from now on.
  Result<> enter() const;
  // Moves it back: sockets made from now on are no hook's.
  Result<> leave() const;

 private:
  TestCgroup(std::string root, std::string path) : root_(std::move(root)), path_(std::move(path)) {}
  std::string root_;
  std::string path_;
};

// The cgroups called `name` at the top of each hierarchy below /sys/fs/cgroup: a runtime makes one in every hierarchy.
std::vector<std::filesystem::path> cgroups_named(const std::string& name);
// Removes them with all that is below them; one that a process is in stays.
void remove_cgroups_named(const std::string& name);

}  // namespace fairlead::testkit
