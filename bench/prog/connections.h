// SPDX-License-Identifier: Apache-2.0
// What a connection costs the packet path: its first packet, the others, and memory; few of them and a million.
#pragma once

#include "agent/base/result.h"
#include "bench/lib/report.h"
#include "bench/prog/driver.h"
#include "test/kit/data_path.h"

namespace fairlead::bench {

// IPv4; adds a line for every number that the goals name. Makes data paths of its own, with room for a million.
Result<> measure_connections(Driver& driver, Report& report);

}  // namespace fairlead::bench
