// SPDX-License-Identifier: Apache-2.0
// HttpServer: answers GET and HEAD for a few fixed paths: metrics and health. HTTP/1.1, one request a connection, no
// TLS. (Debian's civetweb is built without IPv6, and would bring threads.)
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/ip.h"
#include "agent/base/local_protocol.h"
#include "agent/base/metrics.h"
#include "agent/base/request.h"
#include "agent/base/result.h"
#include "agent/server/stream_server.h"

namespace fairlead::server {

struct HttpReply {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// Calls `done` once, on the server's loop, now or later.
using HttpHandler = std::function<void(std::function<void(HttpReply)> done)>;

// Owner: Agent. Thread: its loop's. A client that is slow or talks nonsense costs its own connection.
class HttpServer {
 public:
  HttpServer(Loop& loop, std::map<std::string, HttpHandler> handlers, StreamLimits limits = {});  // by path

  // Listens; an error names the address.
  Result<> start(const SocketAddress& address);
  // Where it listens: of interest where the kernel chose the port. After start().
  std::uint16_t port() const;

 private:
  void on_data(StreamServer::ClientId id, const std::string& received);

  std::map<std::string, HttpHandler> handlers_;
  StreamServer streams_;
  std::shared_ptr<HttpServer*> self_;  // for handlers that are done after our end
};

// Answers with all of the registry's metrics in Prometheus's text format.
HttpHandler metrics_handler(std::shared_ptr<metrics::Registry> registry);

// Asks `module` by `op`; its answer is the body, and 200 where its "healthy" is true, else 503.
HttpHandler health_handler(Loop& loop, Caller<Inspect, Json> module, std::string op, Duration deadline);

// The method and path of a request's head, query left out; both empty where it is no HTTP/1 request. Pure.
struct HttpRequestLine {
  std::string_view method;
  std::string_view path;
};
HttpRequestLine parse_request_line(std::string_view head);

}  // namespace fairlead::server
