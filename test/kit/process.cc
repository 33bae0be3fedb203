// SPDX-License-Identifier: Apache-2.0
#include "test/kit/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <thread>
#include <utility>

namespace fairlead::testkit {

using namespace std::chrono_literals;

Result<Process> Process::start(const std::vector<std::string>& argv, const std::string& log_file,
                               std::function<void()> before_exec) {
  const int log = open(log_file.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) return fail_errno(errno, "open " + log_file);
  std::vector<char*> args;
  for (const std::string& arg : argv) args.push_back(const_cast<char*>(arg.c_str()));
  args.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    if (before_exec) before_exec();
    execvp(args[0], args.data());
    _exit(127);
  }
  close(log);
  if (pid < 0) return fail_errno(errno, "fork " + argv.at(0));
  return Process(pid);
}

Process::Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)), status_(other.status_) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    stop();
    pid_ = std::exchange(other.pid_, -1);
    status_ = other.status_;
  }
  return *this;
}

Process::~Process() {
  stop();
}

bool Process::running() {
  if (pid_ <= 0) return false;
  return !reap(0ms);
}

// True once the child has ended and its status is ours.
bool Process::reap(std::chrono::milliseconds within) {
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  pollfd wait{pidfd, POLLIN, 0};
  const int ready = poll(&wait, 1, static_cast<int>(within.count()));
  close(pidfd);
  if (ready <= 0) return false;
  waitpid(pid_, &status_, 0);
  pid_ = -1;
  return true;
}

int Process::stop(std::chrono::milliseconds grace) {
  if (pid_ > 0) {
    ::kill(pid_, SIGTERM);
    if (!reap(grace)) kill();
  }
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
}

void Process::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  reap(10s);
}

bool eventually(const std::function<bool()>& ready, std::chrono::milliseconds within) {
  const auto deadline = std::chrono::steady_clock::now() + within;
  while (!ready()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(20ms);
  }
  return true;
}

CommandResult run_command(const std::string& shell_line) {
  CommandResult result;
  FILE* pipe = popen(("{ " + shell_line + "; } 2>&1").c_str(), "re");
  if (pipe == nullptr) return {127, "popen failed"};
  std::array<char, 4096> piece{};
  while (const std::size_t size = fread(piece.data(), 1, piece.size(), pipe)) result.output.append(piece.data(), size);
  const int status = pclose(pipe);
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace fairlead::testkit
