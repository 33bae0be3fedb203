// SPDX-License-Identifier: Apache-2.0
// Time, injected wherever time decides: pure functions take a TimePoint, machines take a Clock.
#pragma once

#include <chrono>

namespace fairlead {

using WallTime = std::chrono::system_clock::time_point;   // what API objects carry
using TimePoint = std::chrono::steady_clock::time_point;  // what timers and back-off are made of
using Duration = std::chrono::nanoseconds;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
  virtual WallTime wall() const = 0;
};

// The machine's clocks. Stateless; safe from any thread.
class SystemClock final : public Clock {
 public:
  TimePoint now() const override { return std::chrono::steady_clock::now(); }
  WallTime wall() const override { return std::chrono::system_clock::now(); }
};

// A clock that moves only when told. Not thread-safe.
class ManualClock final : public Clock {
 public:
  TimePoint now() const override { return now_; }
  WallTime wall() const override { return wall_; }
  void advance(Duration by) {
    now_ += by;
    wall_ += std::chrono::duration_cast<WallTime::duration>(by);
  }

 private:
  TimePoint now_{std::chrono::hours(1)};
  WallTime wall_{std::chrono::sys_days{std::chrono::year{2026} / 1 / 1}};
};

}  // namespace fairlead
