// SPDX-License-Identifier: Apache-2.0
#include "test/kit/killed_child.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace fairlead::testkit {
namespace {

// Whether the child stands at the entry of such a call.
bool is_at(pid_t child, const SystemCall& call) {
  __ptrace_syscall_info info{};
  if (ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(info), &info) < 0) return false;
  return info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == static_cast<std::uint64_t>(call.number) &&
         (!call.first_argument || info.entry.args[0] == *call.first_argument);
}

// Lets the child run until it stands at the call, for the n-th time: true; or until it has ended.
Result<bool> run_up_to(pid_t child, const SystemCall& call) {
  std::size_t left = call.nth;
  int forward = 0;  // a signal of the child's own
  for (int status = 0;;) {
    if (ptrace(PTRACE_SYSCALL, child, nullptr, forward) < 0) return fail_errno(errno, "ptrace: go on");
    if (waitpid(child, &status, 0) != child) return fail_errno(errno, "wait for the child");
    if (!WIFSTOPPED(status)) return false;
    forward = WSTOPSIG(status) == (SIGTRAP | 0x80) ? 0 : WSTOPSIG(status);
    if (forward == 0 && is_at(child, call) && --left == 0) return true;
  }
}

}  // namespace

Result<bool> kill_child_at(const SystemCall& call, const std::function<void()>& work) {
  const pid_t child = fork();
  if (child < 0) return fail_errno(errno, "fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    work();
    _exit(0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return fail_errno(errno, "wait for the child");
  ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  const Result<bool> stands = run_up_to(child, call);
  if (!stands || *stands) {
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
  }
  return stands;
}

}  // namespace fairlead::testkit
