// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <functional>
#include <utility>

namespace fairlead::pods {

// At most so many at once; the rest wait in order. Thread: the pods loop.
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

}  // namespace fairlead::pods
