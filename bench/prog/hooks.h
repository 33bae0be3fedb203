// SPDX-License-Identifier: Apache-2.0
// What the socket hooks cost: the kernel runs them only for sockets, so their time is the kernel's own statistics of
// it.
#pragma once

#include "agent/base/result.h"
#include "bench/lib/report.h"
#include "test/kit/data_path.h"

namespace fairlead::bench {

// Adds one line a hook, for UDP sockets on a Service with ten backends.
Result<> measure_hooks(testkit::DataPath& path, Report& report);

}  // namespace fairlead::bench
