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

sigset_t watched_signals() {
  sigset_t all;
  sigemptyset(&all);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT}) sigaddset(&all, signal);
  return all;
}

// Until `child` ends, which `end` brings about once this process is asked to. The exit status.
int watch(pid_t child, int end) {
  if (child < 0) return 1;
  const sigset_t watched = watched_signals();
  int caught = 0;
  while (sigwait(&watched, &caught) == 0 && caught != SIGCHLD) kill(child, end);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Watched signals are blocked; `before` is what was blocked before that.
int watch_node(const std::function<int()>& body, const sigset_t& before) {
  const auto group = TestCgroup::make(kCgroup2, "node");
  if (!group || unshare(CLONE_NEWPID) != 0) {
    std::cerr << "no node of its own: " << (group ? "unshare" : group.error().message()) << '\n';
    return 1;
  }
  cgroup_name() = std::filesystem::path(group->path()).filename();
  const pid_t child = fork();
  if (child == 0) run_child(body, before);
  const int status = watch(child, SIGKILL);
  remove_cgroups_named(cgroup_name());
  return status;
}

}  // namespace

int run_as_node(const std::function<int()>& body) {
  const sigset_t watched = watched_signals();
  sigset_t before;
  sigprocmask(SIG_BLOCK, &watched, &before);
  const pid_t self = getpid();
  // Who cleans up is a process that outlives this one when it is killed.
  const pid_t watcher = fork();
  if (watcher != 0) return watch(watcher, SIGTERM);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  _exit(getppid() == self ? watch_node(body, before) : 1);
}

std::string node_cgroup() {
  return cgroup_name();
}

}  // namespace fairlead::testkit
