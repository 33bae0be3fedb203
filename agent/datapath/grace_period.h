// SPDX-License-Identifier: Apache-2.0
// GracePeriod: knows when no BPF program can hold what it read before.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "agent/base/result.h"

namespace fairlead::datapath {

// What was taken out of the maps may be used again once the ticket requested after that has passed. Owner: whoever
// frees; request, passed and wait: any thread, without locks. Cost: one thread that sleeps in membarrier (5–16 ms) for
// all tickets requested meanwhile at once; a caller only pays where it waits.
class GracePeriod {
 public:
  static Result<std::unique_ptr<GracePeriod>> start();
  ~GracePeriod();

  std::uint64_t request();
  bool passed(std::uint64_t ticket) const { return done_.load(std::memory_order_acquire) >= ticket; }
  // Until the ticket has passed.
  void wait(std::uint64_t ticket) const;

 private:
  GracePeriod() = default;
  void run(const std::stop_token& stop);

  std::atomic<std::uint64_t> requested_ = 0;
  std::atomic<std::uint64_t> done_ = 0;
  std::jthread thread_;
};

}  // namespace fairlead::datapath
