// SPDX-License-Identifier: Apache-2.0
// LinkWatch: says when a device of this network namespace is gone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "agent/base/loop.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/netlink/notifications.h"

namespace fairlead::netlink {

// Owner: one module. Thread: its loop's, in the namespace of the thread that calls start(). Cost: one message a
// device that goes.
class LinkWatch {
 public:
  struct Handlers {
    std::function<void(std::uint32_t ifindex)> gone;
    std::function<void()> missed;  // the kernel dropped messages: compare with what there is
  };
  static Result<std::unique_ptr<LinkWatch>> start(Loop& loop, Handlers handlers);

 private:
  LinkWatch(Loop& loop, UniqueFd fd, Handlers handlers);
  void tell(const nlmsghdr* message) const;

  Handlers handlers_;
  Notifications notifications_;
};

}  // namespace fairlead::netlink
