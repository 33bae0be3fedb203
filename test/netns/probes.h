// SPDX-License-Identifier: Apache-2.0
// Probes: what gets through between the namespaces of a test, told by what arrives.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "test/kit/echo.h"
#include "test/kit/netns.h"

namespace fairlead::testkit {

// A UDP client of an Observer. Owner: the test.
class Datagrams {
 public:
  enum class Way { kConnected, kSendTo };
  static Result<Datagrams> make(const PodNetns& from, const Endpoint& to, Way way = Way::kConnected);
  // Sends one, and whether its answer comes within `patience`.
  bool answered(std::chrono::milliseconds patience = std::chrono::milliseconds(500));
  int fd() const { return fd_.get(); }

 private:
  Datagrams(UniqueFd fd, const Endpoint& to, Way way) : fd_(std::move(fd)), to_(to), way_(way) {}
  UniqueFd fd_;
  Endpoint to_;
  Way way_;
  std::uint32_t sent_ = 0;
};

// Counts the datagrams that reach a port of a namespace, of either family, from before that has an address.
class Sink {
 public:
  Sink(const PodNetns& where, std::uint16_t port);
  std::uint64_t count();

 private:
  UniqueFd fd_;
  std::uint64_t count_ = 0;
};

// Sends datagrams from a namespace as fast as it can, from before it has a way to there, until it ends.
class Flood {
 public:
  Flood(const PodNetns& from, const Endpoint& to);
  // Whether it goes on: so many more have left.
  bool goes_on(std::uint64_t more) const;
  std::uint64_t sent() const { return sent_; }

 private:
  UniqueFd fd_;
  std::atomic<std::uint64_t> sent_ = 0;
  std::jthread thread_;
};

}  // namespace fairlead::testkit
