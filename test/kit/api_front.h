// SPDX-License-Identifier: Apache-2.0
// A way to a test's API server on which anything may happen: TLS ends before the fault and begins anew behind it, so
// that answers may be made up.
#pragma once

#include <optional>
#include <string>

#include "agent/base/result.h"
#include "test/kit/control_plane.h"
#include "test/kit/faulty_proxy.h"
#include "test/kit/process.h"

namespace fairlead::testkit {

//   client ── TLS ── socat ── FaultyProxy ── socat ── TLS ── kube-apiserver
//
// HTTP/1.1 only. Owner: the test, in a network namespace of its own (the ports are fixed) with `plane`.
class ApiFront {
 public:
  static Result<ApiFront> start(const ControlPlane& plane, const std::string& address);

  // What a kubeconfig names as the server.
  const std::string& url() const { return url_; }
  FaultyProxy& proxy() { return *proxy_; }
  // From now on each request is answered so, and each connection ends after its answer. `head`: the status and further
  // header lines, as "500 Internal Server Error".
  void answer(const std::string& head, const std::string& body);

 private:
  ApiFront() = default;
  std::string url_;
  Process before_, behind_;
  std::optional<FaultyProxy> proxy_;
};

}  // namespace fairlead::testkit
