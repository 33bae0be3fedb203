// SPDX-License-Identifier: Apache-2.0
// What packets between pods cost: two pods of one node beside a bare bpf_redirect_peer(), and pods of two nodes through
// our tunnel beside the kernel's own VXLAN device with plain routes; TCP's throughput and round trip, in turn.
#pragma once

#include "bench/lib/report.h"

namespace fairlead::bench {

Result<> measure_packets(Report& report, bool longer);

}  // namespace fairlead::bench
