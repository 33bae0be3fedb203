// SPDX-License-Identifier: Apache-2.0
// DeviceReaper: deletes devices in the background, since that takes 30 to 60 ms, for one or for many.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/loop_thread.h"
#include "agent/netlink/socket.h"

namespace fairlead::network {

// Owner: the network domain. Has a thread and a loop of its own, in the network namespace of whoever makes it. What is
// not deleted at stop, the next start finds and deletes.
class DeviceReaper {
 public:
  static Result<std::unique_ptr<DeviceReaper>> start();

  // By ifindex: a new device may have the old one's name by then. Any thread.
  void remove(std::uint32_t ifindex);

 private:
  explicit DeviceReaper(netlink::Socket socket);
  void delete_doomed();

  netlink::Socket socket_;             // the thread's, like the next
  std::vector<std::uint32_t> doomed_;  // those that came while others were deleted go together
  LoopThread thread_{"device-reaper"};
};

}  // namespace fairlead::network
