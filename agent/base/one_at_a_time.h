// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

namespace fairlead {

// OneAtATime: work that takes a while, of which one run goes on at a time. Who asks for it meanwhile is served by
// another run after it, which sees what has come since; however many ask. Owner and thread: whoever does the work.
class OneAtATime {
 public:
  // True: the run begins now. False: one goes on, and will be told that it was asked for again.
  [[nodiscard]] bool begin() {
    if (!running_) return running_ = true;
    again_ = true;
    return false;
  }
  // The run is over. True: it was asked for meanwhile.
  [[nodiscard]] bool end() {
    running_ = false;
    return std::exchange(again_, false);
  }
  bool running() const { return running_; }

 private:
  bool running_ = false;
  bool again_ = false;
};

}  // namespace fairlead
