// SPDX-License-Identifier: Apache-2.0
#include "bench/pod-network/packets.h"

#include <optional>
#include <string>
#include <vector>

#include "bench/pod-network/joined.h"
#include "bench/pod-network/tcp.h"
#include "test/netns/nodes_bed.h"

namespace fairlead::bench {
namespace {

using namespace std::chrono_literals;
using testkit::BedPod;
using testkit::NodesBed;

constexpr unsigned kMtu = 1450;  // of pods, with a tunnel over IPv4
constexpr auto kSample = 300ms;  // of throughput
constexpr unsigned kTrips = 3000;

// Whom a line compares with, and what the line asks for.
struct Comparison {
  std::string text;  // "same node"
  std::string base;  // "bare redirect_peer"
  std::optional<double> throughput_goal;
  std::optional<double> trip_goal;
};

struct Samples {
  std::vector<double> ours, base, ratios;
};

// `measure` of both in turn; either's failure is the whole's.
Result<Samples> in_pairs(std::size_t rounds, Tcp& ours, Tcp& base, Result<double> (*measure)(Tcp&)) {
  Samples samples;
  for (std::size_t i = 0; i < rounds; ++i) {
    std::optional<double> mine;
    if (i % 2 == 0) {
      FL_LET(mine, measure(ours));
    }
    FL_LET(const double theirs, measure(base));
    if (!mine) {
      FL_LET(mine, measure(ours));
    }
    samples.ours.push_back(*mine);
    samples.base.push_back(theirs);
    samples.ratios.push_back(*mine / theirs);
  }
  return samples;
}

void report_pair(Report& report, const Comparison& with, const std::string& what, const std::string& unit, double scale,
                 const Samples& samples, bool more_is_better, std::optional<double> goal) {
  const auto scaled = [scale](Estimate of) { return Estimate{of.median * scale, of.low * scale, of.high * scale}; };
  report.add({.text = fmt::format("{}: TCP {}", with.text, what),
              .unit = unit,
              .us = scaled(estimate(samples.ours)),
              .more_is_better = more_is_better,
              .peers = {{with.base, scaled(estimate(samples.base)).median}}});
  report.add({.text = fmt::format("{}: TCP {} against {}", with.text, what, with.base),
              .unit = "ratio",
              .us = estimate(samples.ratios),
              .goal = goal,
              .more_is_better = more_is_better});
}

Result<> compare_paths(Report& report, const Comparison& with, std::size_t rounds, Tcp ours, Tcp base) {
  FL_LET(const Samples rates, in_pairs(rounds, ours, base, [](Tcp& tcp) { return tcp.throughput(kSample); }));
  report_pair(report, with, "throughput", "Gbit/s", 1e-9, rates, true, with.throughput_goal);
  FL_LET(const Samples trips, in_pairs(rounds, ours, base, [](Tcp& tcp) { return tcp.round_trip(kTrips); }));
  report_pair(report, with, "round trip", "us", 1, trips, false, with.trip_goal);
  return {};
}

Result<Tcp> connect_pods(const BedPod& from, const BedPod& to) {
  return Tcp::connect(from.netns(), to.netns(), to.address(Family::kV4));
}

Result<Tcp> connect_ends(const Joined& joined) {
  return Tcp::connect(joined.client(), joined.server(), joined.address());
}

}  // namespace

Result<> measure_packets(Report& report, bool longer) {
  const std::size_t rounds = longer ? 101 : 31;
  FL_LET(const auto bed, NodesBed::make({.name = "bench-nodes", .flags = {"--tunnel=vxlan"}}));
  FL_LET(const BedPod client, bed->node(1).add_pod("client"));
  FL_LET(const BedPod near, bed->node(1).add_pod("near"));
  FL_LET(const BedPod far, bed->node(2).add_pod("far"));
  {
    FL_LET(const Joined bare, Joined::by_redirect_peer(kMtu));
    FL_LET(Tcp ours, connect_pods(client, near));
    FL_LET(Tcp base, connect_ends(bare));
    FL_TRY(compare_paths(report, {"same node", "bare redirect_peer", 0.97, 1.02}, rounds, std::move(ours),
                         std::move(base)));
  }
  FL_LET(const Joined plain, Joined::by_kernel_vxlan(*bed, kMtu));
  FL_LET(Tcp ours, connect_pods(client, far));
  FL_LET(Tcp base, connect_ends(plain));
  return compare_paths(report, {"two nodes, VXLAN", "kernel vxlan", 0.95, {}}, rounds, std::move(ours),
                       std::move(base));
}

}  // namespace fairlead::bench
