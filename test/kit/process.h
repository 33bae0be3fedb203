// SPDX-License-Identifier: Apache-2.0
// A child process of a test: started with a log file, ended by its pid, never left behind.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace fairlead::testkit {

// Owner: the test. The child dies with the test's process (PR_SET_PDEATHSIG), and at the latest in the destructor.
class Process {
 public:
  Process() = default;
  // Starts `argv` (argv[0] is looked up in PATH) with stdout and stderr in `log_file`. `before_exec` runs in the child,
  // for setns() and the like; it may only make system calls.
  static Result<Process> start(const std::vector<std::string>& argv, const std::string& log_file,
                               std::function<void()> before_exec = {});
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  bool running();
  // SIGTERM, then SIGKILL after `grace`; waits. The exit code, or 128 + signal.
  int stop(std::chrono::milliseconds grace = std::chrono::seconds(10));
  // SIGKILL, now.
  void kill();

 private:
  explicit Process(pid_t pid) : pid_(pid) {}
  bool reap(std::chrono::milliseconds within);
  pid_t pid_ = -1;
  int status_ = 0;
};

// Polls `ready` every 20 ms until it holds; false once `within` has passed.
bool eventually(const std::function<bool()>& ready, std::chrono::milliseconds within = std::chrono::seconds(30));

// Runs a command to its end; its output (stdout and stderr) and exit code.
struct CommandResult {
  int code = 0;
  std::string output;
};
CommandResult run_command(const std::string& shell_line);

}  // namespace fairlead::testkit
