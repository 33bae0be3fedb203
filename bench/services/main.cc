// SPDX-License-Identifier: Apache-2.0
// scripts/bench services: what a ClusterIP costs a connection, and a round trip on it, against the endpoint's own
// address. Method: clients that differ by nothing but whose Services they have ask in turn; each figure is the median
// of the ratios to the bare client's time of the same turn. Then how soon the sockets of a removed backend end.
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "agent/base/log.h"
#include "bench/lib/report.h"
#include "bench/services/bed.h"
#include "bench/services/dead_sockets.h"
#include "test/kit/own_node.h"

namespace fairlead::bench {
namespace {

constexpr std::size_t kTurns = 41;
constexpr std::uint32_t kConnects = 1500;    // of a turn
constexpr std::uint32_t kRoundTrips = 4000;  // of a turn
constexpr double kGoal = 1.02;

struct Ratios {
  std::vector<double> direct_us, ours;
  std::map<std::string, std::vector<double>> peers;
};

Result<Ratios> take_turns(const Bed& bed, std::uint32_t services, bool open) {
  Ratios ratios;
  const std::uint32_t count = open ? kRoundTrips : kConnects;
  const Job direct{.by_cluster_ip = false, .open = open, .services = services, .count = count};
  const Job balanced{.by_cluster_ip = true, .open = open, .services = services, .count = count};
  FL_TRY(bed.bare().run(direct));  // warm
  for (std::size_t turn = 0; turn < kTurns; ++turn) {
    const bool direct_first = turn % 2 == 0;
    Result<double> base = direct_first ? bed.bare().run(direct) : 0.0;
    FL_LET(const double own, bed.ours().run(balanced));
    if (!direct_first) base = bed.bare().run(direct);
    FL_LET(const double bare, std::move(base));
    ratios.direct_us.push_back(bare);
    ratios.ours.push_back(own / bare);
    for (const auto& [name, worker] : bed.peers()) {
      FL_LET(const double theirs, worker->run(balanced));
      ratios.peers[name].push_back(theirs / bare);
    }
  }
  return ratios;
}

Result<> measure_connections(const Options& options, Report& report) {
  FL_LET(const auto bed, Bed::make(options.peers));
  // kube-proxy needs minutes for the most.
  std::vector<std::uint32_t> counts{1, 1000, 10'000};
  if (!options.peers || options.longer) counts.push_back(50'000);
  std::map<bool, Estimate> first, last;
  for (const std::uint32_t services : counts) {
    FL_TRY(bed->grow(services));
    for (const bool open : {false, true}) {
      const std::string what = fmt::format("{} Service{}: {}", services, services == 1 ? "" : "s",
                                           open ? "round trip" : "connect + round trip");
      FL_LET(const Ratios ratios, take_turns(*bed, services, open));
      std::map<std::string, double> peers;
      for (const auto& [name, values] : ratios.peers) peers[name] = estimate(values).median;
      report.add({.text = what + ", direct", .unit = "us", .us = estimate(ratios.direct_us)});
      last[open] = estimate(ratios.ours);
      first.try_emplace(open, last[open]);
      report.add({.text = what, .unit = "x direct", .us = last[open], .goal = kGoal, .peers = peers});
    }
  }
  for (const bool open : {false, true}) {
    report.add(
        {.text = fmt::format("{}: {} Services beside 1", open ? "round trip" : "connect + round trip", counts.back()),
         .unit = "x",
         .us = {last[open].median / first[open].median, last[open].low / first[open].high,
                last[open].high / first[open].low},
         .goal = kGoal});
  }
  return {};
}

Result<> measure(const Options& options, Report& report) {
  FL_TRY(measure_connections(options, report));
  return measure_dead_sockets(report);
}

}  // namespace
}  // namespace fairlead::bench

int main(int argc, char** argv) {
  fairlead::log::configure(fairlead::log::Level::kWarn, fairlead::log::Format::kText);
  return fairlead::testkit::run_as_node(
      [&] { return fairlead::bench::run(argc, argv, "services", fairlead::bench::measure); });
}
