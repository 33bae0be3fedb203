// SPDX-License-Identifier: Apache-2.0
// How soon the connected UDP sockets of a backend that is removed have ended.
#pragma once

#include "agent/base/result.h"
#include "bench/lib/report.h"

namespace fairlead::bench {

// Adds the lines. Call in testkit::run_as_node(), while no thread makes sockets. Fails where a socket does not end
// within seconds, ends otherwise than by ECONNABORTED, or has a backend that stays.
Result<> measure_dead_sockets(Report& report);

}  // namespace fairlead::bench
