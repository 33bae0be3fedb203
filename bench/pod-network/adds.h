// SPDX-License-Identifier: Apache-2.0
// ADDs of CNI plugins: 110 one after another, as a node that starts does, and 20 at once; ours, and the reference
// plugins bridge with host-local in the same run, in turn.
#pragma once

#include "bench/lib/report.h"

namespace fairlead::bench {

// Without the reference plugins in /usr/lib/cni our lines have no peer.
Result<> measure_adds(Report& report);

}  // namespace fairlead::bench
