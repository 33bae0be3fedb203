// SPDX-License-Identifier: Apache-2.0
// Report: the lines of one benchmark, as a table for people and as the JSON that tools read.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "bench/lib/statistics.h"

namespace fairlead::bench {

// One number of ours beside its goal and the peers' numbers, all in `unit`. Smaller is better unless said otherwise. A
// goal is met when the interval's near end reaches it.
struct Line {
  std::string text;
  std::string unit;  // "ns/packet", "MB", …
  Estimate us;
  std::optional<double> goal = {};
  bool more_is_better = false;
  std::map<std::string, double> peers = {};

  bool met() const { return !goal || (more_is_better ? us.high >= *goal : us.low <= *goal); }
};

// Owner and thread: the benchmark's main.
class Report {
 public:
  explicit Report(std::string bench) : bench_(std::move(bench)) {}

  // Prints it, too.
  void add(Line line);
  // What the verifier walked of a program.
  void add_instructions(const std::string& program, std::uint32_t instructions);
  // {"bench", "lines": [{"line", "unit", "us", "interval": [low, high], "goal", "met", "peers": {…}}]}; a line without
  // a goal has neither "goal" nor "met".
  Result<> write(const std::string& path) const;

 private:
  std::string bench_;
  std::vector<Line> lines_;
};

// What every benchmark takes from its command line: [--peers] [--longer] [--json FILE].
struct Options {
  bool peers = false;   // measure others beside us, where they are to be had
  bool longer = false;  // more than fits into five minutes
  std::string json;
};

// The body of a benchmark's main(): reads the options, runs `measure`, writes the report. The exit code: 0; 1 where the
// measuring failed (a goal that is not met is a result); 2 usage.
int run(int argc, char** argv, const std::string& name, Result<> (*measure)(const Options&, Report&));

}  // namespace fairlead::bench
