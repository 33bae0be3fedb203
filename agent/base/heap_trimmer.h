// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <malloc.h>

#include "agent/base/loop.h"

namespace fairlead {

// HeapTrimmer: what a burst of work took goes back to the system, of every thread's heap; by itself only the top of one
// does. Owner: Agent; thread: its loop. Cost: a millisecond or so each time.
class HeapTrimmer {
 public:
  explicit HeapTrimmer(Loop& loop) : timer_(loop.every(std::chrono::seconds(15), [] { malloc_trim(0); })) {}

 private:
  Subscription timer_;
};

}  // namespace fairlead
