// SPDX-License-Identifier: Apache-2.0
// SocketAttempt: one TCP, HTTP or HTTPS attempt of a probe over a non-blocking socket.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/loop.h"
#include "agent/base/unique_fd.h"
#include "agent/pods/probes/probe_spec.h"
#include "agent/pods/probes/tls_client.h"

namespace fairlead::pods {

struct Attempt {
  bool success = false;
  std::string message;  // why it failed; what an HTTP server said of it, shortened
  int status = 0;       // of an HTTP answer
};

// Owner: the prober. Thread: its loop. `done` runs once, never from inside the constructor, and may destroy this; a
// destroyed attempt does not answer. Cost: a socket and a timer while it lasts, ≤ 10 KiB of body read.
//
// The socket is closed with SO_LINGER 0: probes of a full node would otherwise keep thousands of ports in TIME_WAIT.
// (kubelet lingers for a second, which would block this loop.) An HTTP answer is read to its end first.
class SocketAttempt {
 public:
  using Done = std::function<void(Attempt)>;
  // A connection that opens is all.
  SocketAttempt(Loop& loop, const TcpConnect& tcp, Duration timeout, Done done);
  // Its request, over TLS where it asks for that.
  SocketAttempt(Loop& loop, const HttpGet& get, Duration timeout, Done done);
  SocketAttempt(const SocketAttempt&) = delete;
  SocketAttempt& operator=(const SocketAttempt&) = delete;

 private:
  SocketAttempt(Loop& loop, const IpAddress& address, std::uint16_t port, std::string request, Duration timeout,
                Done done);
  void open(const IpAddress& address);
  void on_connected();
  void write();  // sending_, then reads on
  void on_writable();
  void on_readable();
  // What came, without the TLS around it; false: it is finished with that.
  bool unwrap(std::string_view bytes);
  // Judges the answer once there is enough of it; `end`: there is no more.
  void judge(bool end);
  void finish(bool success, std::string message, int status = 0);
  void later(std::string message);

  Loop& loop_;
  std::string peer_;  // "10.0.0.1:80"
  std::uint16_t port_;
  std::string request_;
  std::unique_ptr<TlsClient> tls_;
  std::string sending_;  // the bytes that are on their way out
  std::size_t sent_ = 0;
  std::string answer_;
  Done done_;
  UniqueFd socket_;
  Subscription watch_;  // after socket_: ends first
  Subscription timer_;
};

}  // namespace fairlead::pods
