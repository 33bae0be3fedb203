// SPDX-License-Identifier: Apache-2.0
#include "test/tools/echo/load_report.h"

#include <algorithm>
#include <cstdio>

namespace fairlead::echo {
namespace {

std::string object(const std::map<std::string, std::uint64_t>& counts) {
  std::string out;
  for (const auto& [name, count] : counts) out += (out.empty() ? "\"" : ", \"") + name + "\": " + std::to_string(count);
  return "{" + out + "}";
}

}  // namespace

void LoadReport::answered(const std::string& backend, microseconds latency) {
  ++backends_[backend];
  latencies_us_.push_back(static_cast<std::uint32_t>(latency.count()));
}

void LoadReport::failed(const std::string& kind) {
  ++failed_;
  ++kinds_[kind];
}

void LoadReport::progress(double seconds) {
  std::string shares;
  for (const auto& [name, count] : backends_)
    shares += " " + name + " +" + std::to_string(count - backends_before_[name]);
  backends_before_ = backends_;
  std::fprintf(stderr, "%5.1f s  %zu answered, %llu new connections, %llu failed;%s\n", seconds, latencies_us_.size(),
               static_cast<unsigned long long>(new_connections_), static_cast<unsigned long long>(failed_),
               shares.c_str());
}

std::string LoadReport::json() const {
  auto sorted = latencies_us_;
  std::ranges::sort(sorted);
  const auto quantile = [&](std::size_t percent) {
    return std::to_string(sorted.empty() ? 0 : sorted[std::min(sorted.size() - 1, sorted.size() * percent / 100)]);
  };
  return "{\"requests\": " + std::to_string(sorted.size() + failed_) +
         ", \"new_connections\": " + std::to_string(new_connections_) + ", \"failed\": " + std::to_string(failed_) +
         ", \"failures_by_kind\": " + object(kinds_) + ", \"p50_us\": " + quantile(50) +
         ", \"p99_us\": " + quantile(99) + ", \"max_us\": " + quantile(100) + ", \"by_backend\": " + object(backends_) +
         "}";
}

}  // namespace fairlead::echo
