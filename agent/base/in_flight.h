// SPDX-License-Identifier: Apache-2.0
// InFlight: calls that a library's own threads will end, so that their owner can cancel them all and wait until the
// last callback has left.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace fairlead {

// Thread: any. Cost: a lock and a map operation for each call's begin and end.
class InFlight {
 public:
  using Id = std::uint64_t;

  // Registers a call before it starts; nullopt after close(): do not start it. `cancel` may run on another thread,
  // even after end(), so it keeps alive what it touches.
  std::optional<Id> begin(std::function<void()> cancel) {
    const std::lock_guard lock(mutex_);
    if (closed_) return std::nullopt;
    calls_.emplace(++last_, std::move(cancel));
    return last_;
  }

  // The call is over: its owner's data is no longer touched.
  void end(Id id) {
    const std::lock_guard lock(mutex_);
    calls_.erase(id);
    if (calls_.empty()) idle_.notify_all();
  }

  // Refuses new calls, cancels those there are and waits for their ends.
  void close() {
    std::vector<std::function<void()>> cancels;
    std::unique_lock lock(mutex_);
    closed_ = true;
    for (const auto& [id, cancel] : calls_) cancels.push_back(cancel);
    lock.unlock();
    for (const auto& cancel : cancels) cancel();
    lock.lock();
    idle_.wait(lock, [this] { return calls_.empty(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable idle_;
  bool closed_ = false;
  Id last_ = 0;
  std::map<Id, std::function<void()>> calls_;
};

}  // namespace fairlead
