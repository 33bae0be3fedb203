// SPDX-License-Identifier: Apache-2.0
// A relay between a client and its server that misbehaves on demand: the fault of a peer that the test cannot bring
// about by ending it.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "agent/base/result.h"

namespace fairlead::testkit {

// Owner: the test; one thread. Ends, and its connections with it, in the destructor.
class FaultyProxy {
 public:
  // Endpoints are "unix:/absolute/path" or "HOST:PORT" (IPv4); the server need not be there yet.
  static Result<FaultyProxy> start(const std::string& listen, const std::string& server);
  FaultyProxy(FaultyProxy&&) noexcept;
  FaultyProxy& operator=(FaultyProxy&&) = delete;
  ~FaultyProxy();

  // Each holds from now on, for connections that are open and for new ones, until the next is called.
  void pass();
  void hang();                                // bytes and connections are taken and go nowhere; pass() delivers them
  void cut();                                 // connections end at once
  void delay(std::chrono::milliseconds by);   // every piece comes later
  void answer_with(const std::string& text);  // whatever is sent is answered by this, and the connection ends

  // How many connections were accepted so far.
  int connections() const;

 private:
  struct Relay;
  explicit FaultyProxy(std::shared_ptr<Relay> relay);
  std::shared_ptr<Relay> relay_;
  std::thread thread_;
};

}  // namespace fairlead::testkit
