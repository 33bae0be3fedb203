// SPDX-License-Identifier: Apache-2.0
#include "test/kit/own_node.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "agent/base/result.h"
#include "test/kit/cgroup.h"
#include "test/kit/netns.h"
#include "test/kit/process.h"

namespace fairlead::testkit {
namespace {

// The node's cgroup; the child has it from its parent.
std::string& cgroup_name() {
  static std::string name;
  return name;
}

Result<> become_node() {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail_errno(errno, "prctl");
  FL_TRY(enter_node_namespace("node"));
  if (mount("proc", "/proc", "proc", 0, nullptr) != 0) return fail_errno(errno, "mount /proc");
  const auto addressed =
      run_command(fmt::format("ip address add {}/32 dev lo && ip address add {}/128 dev lo nodad", kNodeV4, kNodeV6));
  if (addressed.code != 0) return fail(Code::kSystem, "addresses of the node: {}", addressed.output);
  return {};
}

[[noreturn]] void run_child(const std::function<int()>& body, const sigset_t& mask) {
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  const auto group = TestCgroup::make(fmt::format("{}/{}", kCgroup2, cgroup_name()), "host");
  auto ready = group ? group->enter() : std::unexpected(group.error());
  if (ready) ready = become_node();
  if (!ready) std::cerr << "no node of its own: " << ready.error().message() << '\n';
  std::exit(ready ? body() : 1);  // what atexit() registered is undone, too
}

}  // namespace

int run_as_node(const std::function<int()>& body) {
  sigset_t watched, before;
  sigemptyset(&watched);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT}) sigaddset(&watched, signal);
  sigprocmask(SIG_BLOCK, &watched, &before);
  const auto group = TestCgroup::make(kCgroup2, "node");
  if (!group || unshare(CLONE_NEWPID) != 0) {
    std::cerr << "no node of its own: " << (group ? "unshare" : group.error().message()) << '\n';
    return 1;
  }
  cgroup_name() = std::filesystem::path(group->path()).filename();
  const pid_t child = fork();
  if (child == 0) run_child(body, before);
  int caught = 0;
  while (sigwait(&watched, &caught) == 0 && caught != SIGCHLD) kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  remove_cgroups_named(cgroup_name());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string node_cgroup() {
  return cgroup_name();
}

}  // namespace fairlead::testkit
