// SPDX-License-Identifier: Apache-2.0
// Points in time as texts: RFC 3339 in UTC, as the API, health answers and state files carry them.
#pragma once

#include <cstdint>
#include <string>

#include "agent/base/clock.h"

namespace fairlead {

// A point in time as the wire carries it: seconds since 1970 and nanoseconds from there. Reaches over all years that
// RFC 3339 can write, which WallTime does not.
struct Timestamp {
  std::int64_t seconds = 0;
  std::int32_t nanos = 0;
  auto operator<=>(const Timestamp&) const = default;
};

Timestamp to_timestamp(WallTime time);
std::string format_time(Timestamp time);        // "2026-01-01T00:00:00Z": whole seconds
std::string format_micro_time(Timestamp time);  // "2026-01-01T00:00:00.000000Z"

}  // namespace fairlead
