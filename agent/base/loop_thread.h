// SPDX-License-Identifier: Apache-2.0
// LoopThread: a Loop with a thread of its own.
#pragma once

#include <pthread.h>

#include <string>
#include <thread>
#include <utility>

#include "agent/base/loop.h"

namespace fairlead {

// Owner: whoever made it. What lives on the loop is made before start(), or touches it only by post() until its own
// start() runs there, and is destroyed after join().
class LoopThread {
 public:
  // `name` shows in ps and top; 15 characters at most.
  explicit LoopThread(std::string name) : name_(std::move(name)) {}
  ~LoopThread() { join(); }

  Loop& loop() { return loop_; }
  void start() {
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), name_.c_str());
      loop_.run();
    });
  }
  // Ends the loop after what is queued, and waits. Once more is nothing.
  void join() {
    if (!thread_.joinable()) return;
    loop_.stop();
    thread_.join();
  }

 private:
  std::string name_;
  Loop loop_;
  std::thread thread_;
};

}  // namespace fairlead
