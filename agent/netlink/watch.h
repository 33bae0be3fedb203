// SPDX-License-Identifier: Apache-2.0
// Watch: says what changed among the devices, addresses, routes and neighbours of this network namespace.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "agent/base/loop.h"
#include "agent/base/mac.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/netlink/notifications.h"
#include "agent/netlink/socket.h"

namespace fairlead::netlink {

// Owner: one module. Thread: its loop's, in the namespace of the thread that calls start(). Cost: one message a change;
// neighbours that only age are among them, so each handler must be cheap.
class Watch {
 public:
  struct Handlers {
    std::function<void()> links;      // one came, went or changed: name, MTU, address, up or down
    std::function<void()> addresses;  // one came or went
    std::function<void(const Route& route, bool gone)> route;  // of the main table
    // A permanent one came or changed, or any went (no MAC).
    std::function<void(std::uint32_t ifindex, const IpAddress& address, const std::optional<Mac>& mac)> neighbour;
    std::function<void(std::uint32_t ifindex, const Neighbour& peer, bool gone)> peer;  // of a VXLAN device
    std::function<void()> missed;  // the kernel dropped messages: compare with what there is
  };
  static Result<std::unique_ptr<Watch>> start(Loop& loop, Handlers handlers);

 private:
  Watch(Loop& loop, UniqueFd fd, Handlers handlers);
  void tell(const nlmsghdr* header) const;

  Handlers handlers_;
  Notifications notifications_;
};

}  // namespace fairlead::netlink
