// SPDX-License-Identifier: Apache-2.0
// A kernel that lacks something, for one thread.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <functional>
#include <optional>

#include "agent/base/result.h"

namespace fairlead::testkit {

// Runs `task` on a thread whose kernel refuses system call `call` with errno `error`; where `first_argument` is given,
// only if that is it. Fails where that cannot be arranged; `task` was not run then.
Result<> on_kernel_that_refuses(std::uint32_t call, std::optional<std::uint32_t> first_argument, int error,
                                const std::function<void()>& task);

// The same for one command of bpf(2).
Result<> on_kernel_without(bpf_cmd command, int error, const std::function<void()>& task);

}  // namespace fairlead::testkit
