// SPDX-License-Identifier: Apache-2.0
#include "bench/lib/report.h"

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>

namespace fairlead::bench {
namespace {

constexpr double kInstructionLimit = 300'000;  // of the kernel's million

// Three digits, or all before the point.
std::string number(double value) {
  return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}

}  // namespace

void Report::add(Line line) {
  std::string text = fmt::format("{:<64} {:>10} {:<12} [{}, {}]", line.text, number(line.us.median), line.unit,
                                 number(line.us.low), number(line.us.high));
  if (line.goal) text += fmt::format("  goal {:g}: {}", *line.goal, line.met() ? "met" : "MISSED");
  for (const auto& [peer, value] : line.peers) text += fmt::format("  {} {}", peer, number(value));
  std::puts(text.c_str());
  std::fflush(stdout);
  lines_.push_back(std::move(line));
}

void Report::add_instructions(const std::string& program, std::uint32_t instructions) {
  const double count = instructions;
  add({.text = program + ": verified instructions",
       .unit = "instructions",
       .us = {count, count, count},
       .goal = kInstructionLimit});
}

Result<> Report::write(const std::string& path) const {
  nlohmann::ordered_json out{{"bench", bench_}, {"lines", nlohmann::json::array()}};
  for (const Line& line : lines_) {
    nlohmann::ordered_json json{
        {"line", line.text}, {"unit", line.unit}, {"us", line.us.median}, {"interval", {line.us.low, line.us.high}}};
    if (line.goal) {
      json["goal"] = *line.goal;
      json["met"] = line.met();
    }
    json["peers"] = line.peers;
    out["lines"].push_back(std::move(json));
  }
  std::ofstream file(path);
  file << out.dump(2) << '\n' << std::flush;
  if (!file) return fail_errno(errno, fmt::format("write {}", path));
  return {};
}

int run(int argc, char** argv, const std::string& name, Result<> (*measure)(const Options&, Report&)) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word(argv[i]);
    if (word == "--peers") {
      options.peers = true;
    } else if (word == "--longer") {
      options.longer = true;
    } else if (word == "--json" && i + 1 < argc) {
      options.json = argv[++i];
    } else {
      std::fprintf(stderr, "usage: scripts/bench %s [--peers] [--longer] [--json FILE]\n", name.c_str());
      return 2;
    }
  }
  Report report(name);
  Result<> done = measure(options, report);
  if (done && !options.json.empty()) done = report.write(options.json);
  if (!done) std::fprintf(stderr, "bench %s: %s\n", name.c_str(), done.error().message().c_str());
  return done ? 0 : 1;
}

}  // namespace fairlead::bench
