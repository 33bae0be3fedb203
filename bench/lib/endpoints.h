// SPDX-License-Identifier: Apache-2.0
// Endpoints of Services that are all one process: whoever connects is told which address it reached.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace fairlead::bench {

// Listens at `port` of every IPv4 address of this network namespace. Owner: the benchmark; one thread.
class Endpoints {
 public:
  static Result<std::unique_ptr<Endpoints>> serve(std::uint16_t port);
  ~Endpoints();

 private:
  Endpoints() = default;
  void run(int wake) const;
  UniqueFd listener_;
  UniqueFd wake_;  // the thread ends when this end closes
  std::thread thread_;
};

// The endpoint that answers at this IPv4 address and port; nothing where nobody does within `patience`. 30 µs or so.
std::optional<IpAddress> who_answers(const IpAddress& address, std::uint16_t port, std::chrono::milliseconds patience);

}  // namespace fairlead::bench
