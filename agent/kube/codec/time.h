// SPDX-License-Identifier: Apache-2.0
// Reads Time and MicroTime (RFC 3339); reads and writes Duration (Go's "1h30m"), as the API has them.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/base/timestamp.h"

namespace fairlead::kube {

Result<Timestamp> parse_time(std::string_view text);

Result<Duration> parse_duration(std::string_view text);
std::string format_duration(Duration duration);  // "1h30m0s", as Go does

}  // namespace fairlead::kube
