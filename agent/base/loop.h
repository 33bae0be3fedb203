// SPDX-License-Identifier: Apache-2.0
// Loop: one thread, its tasks, timers and file descriptors. Each domain and each edge has one.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "agent/base/clock.h"

namespace fairlead {

using Task = std::move_only_function<void()>;

// A pending timer or a watched descriptor; destroying it ends it. Destroy on the loop's thread, or after run()
// returned.
class Subscription {
 public:
  struct State;
  Subscription();
  explicit Subscription(std::shared_ptr<State> state);
  Subscription(Subscription&&) noexcept;
  Subscription& operator=(Subscription&&) noexcept;
  ~Subscription();
  void cancel();
  explicit operator bool() const { return state_ != nullptr; }

 private:
  std::shared_ptr<State> state_;
};

// Owner: whoever made it (Agent, a test). Thread: run() takes the calling thread until stop(). Only post() and stop()
// may be called from other threads; everything else belongs to the loop's thread (or to the time before run()).
class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs tasks until stop(); tasks posted before stop() are run first.
  void run();
  // Ends run() after what is queued. Any thread.
  void stop();
  // Runs what is ready, without waiting; for tests that have no thread.
  void poll();
  // Queues a task. Any thread. Tasks of one poster run in order.
  void post(Task task);

  // Runs `task` once after `delay`.
  [[nodiscard]] Subscription after(Duration delay, Task task);
  // Runs `task` each `period`, the first time after one period.
  [[nodiscard]] Subscription every(Duration period, std::function<void()> task);

  enum class Ready { kRead, kWrite, kReadOrWrite };
  // Runs `task` each time `fd` is ready, level-triggered. At most one subscription a descriptor. The descriptor stays
  // the caller's, who closes it only after the subscription is gone.
  [[nodiscard]] Subscription watch(int fd, Ready ready, std::function<void()> task);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fairlead
