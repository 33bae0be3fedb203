// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/cgroups.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace fairlead::pods {
namespace {

namespace fs = std::filesystem;

// cpuset on v1: a child starts empty, and no process can be put into it before it has its parent's values.
void inherit_cpuset(const fs::path& child) {
  for (const auto* file : {"cpuset.cpus", "cpuset.mems"}) {
    std::ifstream mine(child / file);
    std::string value;
    if (!mine || (std::getline(mine, value) && !value.empty())) continue;
    std::string parent_value;
    std::ifstream parent(child.parent_path() / file);
    std::getline(parent, parent_value);
    std::ofstream(child / file) << parent_value;
  }
}

// cgroup2: what the parent has, its children get. Best effort: a controller that cannot be had (threaded, realtime
// processes) is the runtime's to complain about when it sets a limit.
void hand_down(const fs::path& parent) {
  std::ifstream controllers(parent / "cgroup.controllers");
  for (std::string name; controllers >> name;) {
    std::ofstream(parent / "cgroup.subtree_control") << "+" << name << std::flush;
  }
}

// The processes of one cgroup, not of those beneath it.
void kill_all(const fs::path& cgroup) {
  std::ifstream processes(cgroup / "cgroup.procs");
  for (pid_t pid = 0; processes >> pid;) {
    if (pid > 0) ::kill(pid, SIGKILL);  // 0: one that our pid namespace has no number for
  }
}

// Leaves first; a cgroup's files are the kernel's and go with it. Goes on past what cannot be removed yet.
Result<> remove_tree(const fs::path& folder) {
  Result<> all;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (!at->is_directory(error)) continue;
    if (auto removed = remove_tree(at->path()); !removed && all) all = std::move(removed);
  }
  if (!all || ::rmdir(folder.c_str()) == 0 || errno == ENOENT) return all;
  if (errno != EBUSY) return fail_errno(errno, "remove cgroup " + folder.string());
  kill_all(folder);
  return fail(Code::kUnavailable, "cgroup {}: processes were still in it", folder.string());
}

}  // namespace

std::vector<std::string> Cgroups::find_roots(std::string_view mountinfo) {
  std::vector<std::string> roots;
  std::set<std::string> seen;  // a hierarchy is mounted twice where its controllers' names are linked by mounts
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before(line.substr(0, dash));
    std::istringstream after(line.substr(dash + 3));
    std::string id, parent, device, root, point, type;
    before >> id >> parent >> device >> root >> point;
    after >> type;
    if ((type == "cgroup" || type == "cgroup2") && root == "/" && seen.insert(device).second) roots.push_back(point);
  }
  return roots;
}

Result<> Cgroups::create(const std::string& parent) const {
  for (const std::string& root : roots_) {
    fs::path path = root;
    const bool hands_down = ::access((path / "cgroup.subtree_control").c_str(), F_OK) == 0;
    const bool has_cpuset = ::access((path / "cpuset.cpus").c_str(), F_OK) == 0;
    for (const auto& part : fs::path(parent).relative_path()) {
      if (hands_down) hand_down(path);
      path /= part;
      if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno(errno, "make cgroup " + path.string());
      if (has_cpuset) inherit_cpuset(path);
    }
    if (hands_down) hand_down(path);
  }
  return {};
}

Result<> Cgroups::remove(const std::string& parent) const {
  for (const std::string& root : roots_) {
    FL_TRY(remove_tree(fs::path(root) / fs::path(parent).relative_path()));
  }
  return {};
}

}  // namespace fairlead::pods
