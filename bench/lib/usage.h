// SPDX-License-Identifier: Apache-2.0
// What a process takes of the machine.
#pragma once

#include <sys/types.h>

#include "agent/base/result.h"

namespace fairlead::bench {

struct Usage {
  double cpu_seconds = 0;  // of all its threads, since it began
  double memory_mib = 0;   // resident now
  double peak_mib = 0;     // resident at most, since it began
};

// As /proc tells it. kNotFound where there is no such process.
Result<Usage> usage_of(pid_t pid);

}  // namespace fairlead::bench
