// SPDX-License-Identifier: Apache-2.0
// Notifications: what the kernel tells of changes in this network namespace, message by message.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "agent/base/loop.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

struct nlmsghdr;

namespace fairlead::netlink {

// Owner: one watch. Thread: its loop's, in the namespace of the thread that calls subscribe(). Cost: one message a
// change.
class Notifications {
 public:
  struct Handlers {
    std::function<void(const nlmsghdr* message)> message;  // valid during the call
    std::function<void()> missed;                          // the kernel dropped some: compare with what there is
  };
  // `groups`: RTMGRP_*; `what` they tell of, for an error. `type`: RTM_*, where only such messages are wanted: a pod's
  // device makes half a dozen others when it comes.
  static Result<UniqueFd> subscribe(std::uint32_t groups, const char* what, std::optional<std::uint16_t> type = {});
  // Reads from `fd` what was subscribed to.
  Notifications(Loop& loop, UniqueFd fd, Handlers handlers);

 private:
  void read();

  UniqueFd fd_;
  Handlers handlers_;
  Subscription subscription_;
};

}  // namespace fairlead::netlink
