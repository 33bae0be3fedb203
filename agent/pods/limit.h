// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <functional>
#include <utility>

#include "agent/base/loop.h"

namespace fairlead::pods {

// At most so many at once; the rest wait in order. Owner and thread: whose work it is.
class Limit {
 public:
  explicit Limit(unsigned places) : places_(places) {}
  void enter(std::function<void()> run) {
    waiting_.push_back(std::move(run));
    next();
  }
  void leave() {
    ++places_;
    next();
  }

 private:
  void next() {
    while (places_ > 0 && !waiting_.empty()) {
      --places_;
      auto run = std::move(waiting_.front());
      waiting_.pop_front();
      run();
    }
  }
  unsigned places_;
  std::deque<std::function<void()>> waiting_;
};

// A place within a limit, from an enter() on: until it is left, or for `patience`. Who takes longer waits for something
// and costs nobody anything; it must not hold up the rest.
class Place {
 public:
  Place(Loop& loop, Limit& limit, Duration patience) : limit_(limit) {
    timer_ = loop.after(patience, [this] { leave(); });
  }
  void leave() {
    timer_.cancel();
    if (std::exchange(held_, false)) limit_.leave();
  }

 private:
  Limit& limit_;
  bool held_ = true;
  Subscription timer_;
};

}  // namespace fairlead::pods
