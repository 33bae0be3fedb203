// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/grace_period.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace fairlead::datapath {
namespace {

long membarrier(int command) {
  return syscall(SYS_membarrier, command, 0, 0);
}

}  // namespace

Result<std::unique_ptr<GracePeriod>> GracePeriod::start() {
  // Also waits for the programs that were running when an earlier agent died.
  if (membarrier(MEMBARRIER_CMD_GLOBAL) != 0) {
    return fail_errno(errno, "membarrier(GLOBAL), by which map ids are reused (a kernel with nohz_full has none)");
  }
  std::unique_ptr<GracePeriod> grace(new GracePeriod);
  grace->thread_ = std::jthread([self = grace.get()](const std::stop_token& stop) { self->run(stop); });
  return grace;
}

GracePeriod::~GracePeriod() {
  thread_.request_stop();
  request();  // wakes the thread
}

std::uint64_t GracePeriod::request() {
  const std::uint64_t ticket = requested_.fetch_add(1) + 1;
  requested_.notify_one();
  return ticket;
}

void GracePeriod::wait(std::uint64_t ticket) const {
  for (std::uint64_t done = done_.load(); done < ticket; done = done_.load()) done_.wait(done);
}

void GracePeriod::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    const std::uint64_t ticket = requested_.load();
    if (ticket == done_.load()) {
      requested_.wait(ticket);
      continue;
    }
    membarrier(MEMBARRIER_CMD_GLOBAL);  // succeeded in start(): it always does then
    done_.store(ticket, std::memory_order_release);
    done_.notify_all();
  }
}

}  // namespace fairlead::datapath
