// SPDX-License-Identifier: Apache-2.0
// StopSignals: SIGTERM and SIGINT as a task on a loop.
#pragma once

#include <functional>

#include "agent/base/loop.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace fairlead {

// Owner: Agent, made before any other thread starts: the signals are blocked in the calling thread, and threads
// inherit that. A second signal ends the process at once, as it would have without us: an orderly stop that hangs can
// be left.
class StopSignals {
 public:
  // `stop` runs on `loop` with the signal's number, once.
  static Result<StopSignals> create(Loop& loop, std::function<void(int)> stop);

 private:
  StopSignals(UniqueFd fd, Subscription watch) : fd_(std::move(fd)), watch_(std::move(watch)) {}
  UniqueFd fd_;
  Subscription watch_;  // ends before fd_ closes
};

}  // namespace fairlead
