// SPDX-License-Identifier: Apache-2.0
// scripts/bench pod-network: what a pod's network costs. ADDs: adds.h; packets: packets.h.
#include "bench/lib/report.h"
#include "bench/pod-network/adds.h"
#include "bench/pod-network/packets.h"
#include "test/kit/netns.h"

namespace fairlead::bench {
namespace {

Result<> measure(const Options& options, Report& report) {
  FL_TRY(testkit::enter_node_namespace("bench-pod-network"));
  FL_TRY(measure_packets(report, options.longer));
  return measure_adds(report);
}

}  // namespace
}  // namespace fairlead::bench

int main(int argc, char** argv) {
  return fairlead::bench::run(argc, argv, "pod-network", fairlead::bench::measure);
}
