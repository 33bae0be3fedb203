// SPDX-License-Identifier: Apache-2.0
#include "agent/base/timestamp.h"

#include "agent/base/result.h"

namespace fairlead {
namespace {

// Without fraction and zone.
std::string format(Timestamp time) {
  using namespace std::chrono;
  const sys_seconds at{seconds(time.seconds)};
  const auto day = floor<days>(at);
  const year_month_day date{day};
  const hh_mm_ss clock{at - day};
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), clock.hours().count(),
                     clock.minutes().count(), clock.seconds().count());
}

}  // namespace

Timestamp to_timestamp(WallTime time) {
  using namespace std::chrono;
  const auto whole = floor<seconds>(time);
  return {whole.time_since_epoch().count(),
          static_cast<std::int32_t>(duration_cast<nanoseconds>(time - whole).count())};
}

std::string format_time(Timestamp time) {
  return format(time) + "Z";
}

std::string format_micro_time(Timestamp time) {
  return fmt::format("{}.{:06}Z", format(time), time.nanos / 1000);
}

}  // namespace fairlead
