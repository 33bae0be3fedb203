// SPDX-License-Identifier: Apache-2.0
// A child process of a test that dies in the middle of its work, at a place of the test's choice.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "agent/base/result.h"

namespace fairlead::testkit {

// A system call of the child's first thread.
struct SystemCall {
  long number = 0;                              // SYS_…
  std::optional<std::uint64_t> first_argument;  // where it matters, as a command of bpf()
  std::size_t nth = 1;
};

// Runs `work` in a copy of this process, of which the calling thread alone is left, and ends that by SIGKILL right
// before `call`. False where `work` came to its end without it. `work` may use what no other thread has locked.
Result<bool> kill_child_at(const SystemCall& call, const std::function<void()>& work);

}  // namespace fairlead::testkit
