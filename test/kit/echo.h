// SPDX-License-Identifier: Apache-2.0
// Echo servers that say who they are, and the clients that ask them.
#pragma once

#include <cstdint>
#include <string>
#include <thread>
#include <utility>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace fairlead::testkit {

struct Endpoint {
  IpAddress address;
  std::uint16_t port = 0;  // host order
  auto operator<=>(const Endpoint&) const = default;
};
std::string to_string(const Endpoint& endpoint);

// Answers each TCP connection and each UDP datagram at one address and port with `name`. Owner: the test; one thread,
// in the network namespace of the thread that started it.
class EchoServer {
 public:
  // A port that is free for both.
  static Result<EchoServer> start(const IpAddress& address, const std::string& name);
  EchoServer(EchoServer&&) = default;
  EchoServer& operator=(EchoServer&&) = delete;
  ~EchoServer();

  const Endpoint& endpoint() const { return endpoint_; }

 private:
  EchoServer() = default;
  Endpoint endpoint_;
  UniqueFd wake_;  // the thread ends when this end closes
  std::thread thread_;
};

// A socket of a test client. `family` of the socket, which may name IPv4 peers v4-mapped where it is kV6.
class Client {
 public:
  static Result<Client> make(Family family, Protocol protocol);

  Result<> connect(const Endpoint& to);
  // kSystem with `sys` as send or sendto gave it.
  Result<> send();
  Result<> send_to(const Endpoint& to);
  // The answer's text, and where recvfrom says that it comes from.
  Result<std::pair<std::string, Endpoint>> receive();
  Result<Endpoint> peer() const;  // getpeername
  int fd() const { return fd_.get(); }

 private:
  Client(UniqueFd fd, Family family) : fd_(std::move(fd)), family_(family) {}
  UniqueFd fd_;
  Family family_;
};

// Connects by a fresh socket of `family` and gives who answered.
Result<std::string> ask(Family family, Protocol protocol, const Endpoint& to);

}  // namespace fairlead::testkit
