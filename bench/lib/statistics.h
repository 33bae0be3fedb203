// SPDX-License-Identifier: Apache-2.0
// What measured samples say: a quantile, and how sure it is.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

namespace fairlead::bench {

// A quantile (the median, unless said otherwise) with its 95 % interval.
struct Estimate {
  double median = 0;
  double low = 0;
  double high = 0;
};

// A single value, of which nothing is known but itself.
inline Estimate exactly(double value) {
  return {value, value, value};
}

// By order statistics, so nothing is assumed of the distribution: of n samples, those q·n ± 1.96·√(n·q·(1-q)) from the
// smallest.
inline Estimate quantile(std::vector<double> samples, double q) {
  if (samples.empty()) return {};
  std::ranges::sort(samples);
  const auto n = static_cast<double>(samples.size());
  const auto at = [&](double rank) { return samples[static_cast<std::size_t>(std::clamp(rank, 0.0, n - 1))]; };
  const double half = 1.96 * std::sqrt(n * q * (1 - q));
  const double here = (n - 1) * q;  // between two samples, the mean of both
  return {(at(std::floor(here)) + at(std::ceil(here))) / 2, at(std::floor(n * q - half)),
          at(std::ceil(n * q + half) - 1)};
}

inline Estimate estimate(std::vector<double> samples) {
  return quantile(std::move(samples), 0.5);
}

// `rounds` times `subject` and `base` in turn, so that whatever the machine does meanwhile meets both; of each pair
// what `relate` makes of it.
inline std::vector<double> in_turn(std::size_t rounds, const std::function<double()>& subject,
                                   const std::function<double()>& base,
                                   const std::function<double(double, double)>& relate) {
  std::vector<double> related;
  for (std::size_t i = 0; i < rounds; ++i) {
    const bool subject_first = i % 2 == 0;
    const double first = subject_first ? subject() : base();
    const double second = subject_first ? base() : subject();
    related.push_back(subject_first ? relate(first, second) : relate(second, first));
  }
  return related;
}

// What the subject takes beyond the base.
inline Estimate compare(std::size_t rounds, const std::function<double()>& subject,
                        const std::function<double()>& base) {
  return estimate(in_turn(rounds, subject, base, std::minus<>()));
}

}  // namespace fairlead::bench
