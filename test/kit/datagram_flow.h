// SPDX-License-Identifier: Apache-2.0
// DatagramFlow: numbered datagrams that go there and back between two namespaces, counted at both ends.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "test/kit/echo.h"
#include "test/kit/netns.h"

namespace fairlead::testkit {

// So few are on the way at a time that no queue between the ends can be full: what is missing was lost on purpose.
// Owner: the test. Two threads, of which each waits for the other; some thousand datagrams a second.
class DatagramFlow {
 public:
  struct Counts {
    std::uint64_t sent = 0;      // which the kernel took
    std::uint64_t arrived = 0;   // at the other end, each number once
    std::uint64_t returned = 0;  // each number once
    std::uint64_t repeated = 0;  // a number that had come before, at either end
    std::string refused;         // the first error that sending or receiving gave
    std::string str() const;
    bool whole() const { return sent == arrived && arrived == returned && repeated == 0 && refused.empty(); }
  };

  // From a socket in `from` to one in `to` at `at`, an address in there; the port is free.
  static Result<DatagramFlow> start(const PodNetns& from, const PodNetns& to, const Endpoint& at);
  DatagramFlow(DatagramFlow&&) noexcept;
  DatagramFlow& operator=(DatagramFlow&&) = delete;
  ~DatagramFlow();

  // How many have come back by now.
  std::uint64_t returned() const;
  // Sends no more, waits for what is on the way, and ends.
  Counts stop();

 private:
  struct Shared;
  explicit DatagramFlow(std::unique_ptr<Shared> shared);
  std::unique_ptr<Shared> shared_;
};

}  // namespace fairlead::testkit
