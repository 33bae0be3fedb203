// SPDX-License-Identifier: Apache-2.0
// The control lines of scripts/bench policy: from a changed row to the maps.
#pragma once

#include "agent/datapath/policy_maps.h"
#include "bench/lib/report.h"

namespace fairlead::bench {

// 1,000 policies in 100 namespaces of 10,000 pods, 110 of them on this node: how long one label and one policy take
// from their table into `maps` and into the rows of the pods.
Result<> measure_control(datapath::PolicyMaps& maps, Report& report);

}  // namespace fairlead::bench
