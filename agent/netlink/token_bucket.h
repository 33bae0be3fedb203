// SPDX-License-Identifier: Apache-2.0
// TokenBucket: queueing discipline tbf, which lets a device send no more than so much.
#pragma once

#include <cstdint>
#include <optional>

#include "agent/netlink/socket.h"

namespace fairlead::netlink {

struct TokenBucket {
  std::uint64_t rate = 0;   // bytes a second, of frames as they would be on a wire
  std::uint32_t burst = 0;  // bytes that may go at once; a larger packet is cut into its segments
  std::uint32_t limit = 0;  // bytes that may wait
  bool operator==(const TokenBucket&) const = default;
};

// Makes it the device's root discipline, in place of what is there.
Result<> set_token_bucket(Socket& socket, std::uint32_t ifindex, const TokenBucket& bucket);
// The rate of the device's root discipline in bytes a second; none where it is no tbf.
Result<std::optional<std::uint64_t>> token_bucket_rate(Socket& socket, std::uint32_t ifindex);

}  // namespace fairlead::netlink
