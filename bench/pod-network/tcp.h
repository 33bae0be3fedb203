// SPDX-License-Identifier: Apache-2.0
// One TCP connection between two namespaces, and what it carries.
#pragma once

#include <chrono>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "test/kit/netns.h"

namespace fairlead::bench {

// Owner: the benchmark. The client's thread has one processor, the server's another, where there are two.
class Tcp {
 public:
  // From `client` to `address`, which is one of `server`'s.
  static Result<Tcp> connect(const testkit::PodNetns& client, const testkit::PodNetns& server,
                             const IpAddress& address);

  // Bits a second that the server got.
  Result<double> throughput(std::chrono::milliseconds time);
  // Microseconds until one byte has come back; the mean of so many.
  Result<double> round_trip(unsigned count);

 private:
  UniqueFd client_;
  UniqueFd server_;
};

}  // namespace fairlead::bench
