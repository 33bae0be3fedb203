// SPDX-License-Identifier: Apache-2.0
// The process of a pod's sandbox: holds its namespaces, reaps orphans, ends on SIGTERM or SIGINT.
#include <sys/wait.h>

#include <csignal>

int main() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  for (;;) {
    if (sigwaitinfo(&set, nullptr) != SIGCHLD) return 0;
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }
}
