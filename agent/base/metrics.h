// SPDX-License-Identifier: Apache-2.0
// Metrics: short ways to the Prometheus registry that Agent hands to every module. Metrics are thread-safe and live
// as long as the registry.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <map>
#include <string>

namespace fairlead::metrics {

using Registry = prometheus::Registry;
using MetricLabels = std::map<std::string, std::string>;

inline prometheus::Counter& counter(Registry& registry, const std::string& name, const std::string& help,
                                    const MetricLabels& labels = {}) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add(labels);
}

inline prometheus::Gauge& gauge(Registry& registry, const std::string& name, const std::string& help,
                                const MetricLabels& labels = {}) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(labels);
}

// Buckets in seconds, from 1 ms to about 16 s, doubling.
inline prometheus::Histogram& seconds_histogram(Registry& registry, const std::string& name, const std::string& help,
                                                const MetricLabels& labels = {}) {
  prometheus::Histogram::BucketBoundaries bounds;
  for (double bound = 0.001; bound < 20; bound *= 2) bounds.push_back(bound);
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add(labels, bounds);
}

}  // namespace fairlead::metrics
