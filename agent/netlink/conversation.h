// SPDX-License-Identifier: Apache-2.0
// Conversation: one netlink socket, and its requests one after the other. Private to agent/netlink.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

struct nlmsghdr;

namespace fairlead::netlink {

// It stays in the network namespace of the thread that opened it. Owner: one; any thread, one at a time.
class Conversation {
 public:
  // `protocol`: NETLINK_ROUTE, NETLINK_SOCK_DIAG.
  static Result<Conversation> open(int protocol);

  // Sends and reads up to the acknowledgement or the end of the dump; `each` gets what came before it. `what` is tried,
  // for the error, which carries the kernel's own words where it has any.
  Result<> exchange(class Message& message, const std::string& what,
                    const std::function<void(const nlmsghdr*)>& each = {});
  int fd() const { return fd_.get(); }

 private:
  explicit Conversation(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
  std::uint32_t sequence_ = 0;
};

}  // namespace fairlead::netlink
