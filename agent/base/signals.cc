// SPDX-License-Identifier: Apache-2.0
#include "agent/base/signals.h"

#include <sys/signalfd.h>

#include <cerrno>
#include <csignal>

namespace fairlead {
namespace {

sigset_t stop_set() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

Result<StopSignals> StopSignals::create(Loop& loop, std::function<void(int)> stop) {
  const sigset_t set = stop_set();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  UniqueFd fd(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!fd) return fail_errno(errno, "signalfd");
  auto watch = loop.watch(fd.get(), Loop::Ready::kRead, [raw = fd.get(), stop = std::move(stop)] {
    signalfd_siginfo info{};
    if (::read(raw, &info, sizeof info) != sizeof info) return;
    const sigset_t next = stop_set();
    ::pthread_sigmask(SIG_UNBLOCK, &next, nullptr);  // in this thread: the next one takes its default course
    stop(static_cast<int>(info.ssi_signo));
  });
  return StopSignals(std::move(fd), std::move(watch));
}

}  // namespace fairlead
