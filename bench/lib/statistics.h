// SPDX-License-Identifier: Apache-2.0
// What measured samples say: the median, and how sure it is.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

namespace fairlead::bench {

// A median with its 95 % interval.
struct Estimate {
  double median = 0;
  double low = 0;
  double high = 0;
};

// By order statistics, so nothing is assumed of the distribution: of n samples, those n/2 ± 0.98·√n from the smallest.
inline Estimate estimate(std::vector<double> samples) {
  if (samples.empty()) return {};
  std::ranges::sort(samples);
  const auto n = static_cast<double>(samples.size());
  const auto at = [&](double rank) { return samples[static_cast<std::size_t>(std::clamp(rank, 0.0, n - 1))]; };
  const double half = 0.98 * std::sqrt(n);
  const double median = samples.size() % 2 == 1 ? at((n - 1) / 2) : (at(n / 2 - 1) + at(n / 2)) / 2;
  return {median, at(std::floor(n / 2 - half)), at(std::ceil(n / 2 + half) - 1)};
}

// `rounds` times `subject` and `base` in turn, so that whatever the machine does meanwhile meets both; what the subject
// takes beyond the base.
inline Estimate compare(std::size_t rounds, const std::function<double()>& subject,
                        const std::function<double()>& base) {
  std::vector<double> differences;
  for (std::size_t i = 0; i < rounds; ++i) {
    const bool subject_first = i % 2 == 0;
    const double first = subject_first ? subject() : base();
    const double second = subject_first ? base() : subject();
    differences.push_back(subject_first ? first - second : second - first);
  }
  return estimate(std::move(differences));
}

}  // namespace fairlead::bench
