// SPDX-License-Identifier: Apache-2.0
// Traffic between the namespaces of a test: servers that tell each client what they see of it, and clients of TCP, UDP
// and ICMP. All of it works in the network namespace of the calling thread (PodNetns::run).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "test/kit/echo.h"

namespace fairlead::testkit {

// At any address of the namespace, on one port of TCP and UDP of both families: tells each connection at its beginning
// who it comes from, then sends back what it gets; answers each datagram with a line of that and the datagram itself.
// Owner: the test; one thread for all, so its clients are few.
class Observer {
 public:
  static Result<Observer> start(std::uint16_t port);
  Observer(Observer&&) = default;
  Observer& operator=(Observer&&) = delete;
  ~Observer();

 private:
  Observer() = default;
  UniqueFd wake_;  // the thread ends when this end closes
  std::thread thread_;
};

// A TCP connection to an Observer.
class Stream {
 public:
  // `source_port` 0: any. Gives up after `patience`.
  static Result<Stream> connect(const Endpoint& to, std::uint16_t source_port = 0,
                                std::chrono::seconds patience = std::chrono::seconds(10));
  const Endpoint& seen() const { return seen_; }  // what the server sees of us
  // Sends so many bytes and gets them back, all the same.
  Result<> exchange(std::size_t bytes);
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  Endpoint seen_;
};

// One datagram of `bytes` to an Observer and its whole answer; who the server saw. Sent anew each 2 s, `attempts`
// times; where that is 1, the answer may take 20 s.
Result<Endpoint> ask_datagram(const Endpoint& to, std::size_t bytes = 1, int attempts = 5);

// One echo request of `bytes` and its reply, tried up to five times, a second each.
Result<> ping(const IpAddress& to, std::size_t bytes = 56);

// The path's MTU towards an address, as the kernel has learned it once datagrams of `bytes` that may not be fragmented
// have been sent there for a while.
Result<int> learn_mtu(const Endpoint& to, std::size_t bytes);

// The error that a datagram to where nobody listens brings back: an errno.
Result<int> refused(const Endpoint& to);

}  // namespace fairlead::testkit
