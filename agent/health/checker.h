// SPDX-License-Identifier: Apache-2.0
// Checker: asks a gRPC server whether it serves (grpc.health.v1.Health/Check).
#pragma once

#include <functional>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/ip.h"
#include "agent/base/result.h"

namespace fairlead::health {

struct Check {
  SocketAddress server;
  std::string service;  // empty: the server as a whole
  Duration timeout{};   // of connection and answer together
};

// An interface, so that tests bring their own.
class Checker {
 public:
  using Done = std::function<void(Result<>)>;
  virtual ~Checker() = default;
  // Answers once, on the loop, never from within the call. An error tells in kubelet's words why it does not serve:
  // kTimeout, or kUnavailable for all else.
  virtual void check(const Check& check, Done done) = 0;
};

}  // namespace fairlead::health
