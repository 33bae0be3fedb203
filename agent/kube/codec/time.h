// SPDX-License-Identifier: Apache-2.0
// Time, MicroTime (RFC 3339) and Duration (Go's "1h30m") as the API writes them.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/base/result.h"

namespace fairlead::kube {

// A point in time as the wire carries it: seconds since 1970 and nanoseconds from there.
struct Timestamp {
  std::int64_t seconds = 0;
  std::int32_t nanos = 0;
  auto operator<=>(const Timestamp&) const = default;
};

Timestamp to_timestamp(WallTime time);
Result<Timestamp> parse_time(std::string_view text);
std::string format_time(Timestamp time);        // "2026-01-01T00:00:00Z": whole seconds
std::string format_micro_time(Timestamp time);  // "2026-01-01T00:00:00.000000Z"

Result<Duration> parse_duration(std::string_view text);
std::string format_duration(Duration duration);  // "1h30m0s", as Go does

}  // namespace fairlead::kube
