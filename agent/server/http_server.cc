// SPDX-License-Identifier: Apache-2.0
#include "agent/server/http_server.h"

#include <prometheus/text_serializer.h>
#include <sys/socket.h>

#include <cerrno>
#include <string_view>

#include "agent/base/socket_name.h"

namespace fairlead::server {
namespace {

constexpr std::size_t kHeadLimit = 8U << 10;  // bytes of a request's head

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    default:
      return "Status";
  }
}

std::string encode(const HttpReply& reply, bool head_only) {
  return fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n"
      "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{}",
      reply.status, reason(reply.status), reply.content_type, reply.body.size(), head_only ? "" : reply.body);
}

}  // namespace

HttpServer::HttpServer(Loop& loop, std::map<std::string, HttpHandler> handlers, StreamLimits limits)
    : handlers_(std::move(handlers)),
      streams_(loop, limits, [this](StreamServer::ClientId id, const std::string& received) { on_data(id, received); }),
      self_(std::make_shared<HttpServer*>(this)) {}

Result<> HttpServer::start(const SocketAddress& address) {
  const std::string what = "serve HTTP on " + address.str();
  const SocketName to = socket_name(address.address, address.port);
  UniqueFd listener(::socket(to.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener) return fail_errno(errno, what);
  const int on = 1;
  ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(listener.get(), to.get(), to.size) != 0 || ::listen(listener.get(), SOMAXCONN) != 0) {
    return fail_errno(errno, what);
  }
  streams_.listen(std::move(listener));
  return {};
}

std::uint16_t HttpServer::port() const {
  SocketName own;
  if (::getsockname(streams_.listener(), own.get(), &own.size) != 0) return 0;
  return socket_address(*own.get())->port;
}

void HttpServer::on_data(StreamServer::ClientId id, const std::string& received) {
  const std::size_t end = received.find("\r\n\r\n");
  if (end == std::string::npos) {
    if (received.size() > kHeadLimit) streams_.answer(id, encode({.status = 431, .body = ""}, false));
    return;
  }
  const auto [method, path] = parse_request_line(received);
  if (method.empty()) return streams_.answer(id, encode({.status = 400, .body = "not HTTP/1\n"}, false));
  const bool head_only = method == "HEAD";
  if (method != "GET" && !head_only) return streams_.answer(id, encode({.status = 405, .body = "only GET\n"}, false));
  const auto handler = handlers_.find(std::string(path));
  if (handler == handlers_.end()) {
    return streams_.answer(id, encode({.status = 404, .body = "no such path\n"}, head_only));
  }
  streams_.hold(id);
  handler->second([self = std::weak_ptr(self_), id, head_only](const HttpReply& reply) {
    if (const auto server = self.lock()) (*server)->streams_.answer(id, encode(reply, head_only));
  });
}

HttpHandler metrics_handler(std::shared_ptr<metrics::Registry> registry) {
  return [registry = std::move(registry)](const std::function<void(HttpReply)>& done) {
    done({.content_type = "text/plain; version=0.0.4; charset=utf-8",
          .body = prometheus::TextSerializer().Serialize(registry->Collect())});
  };
}

HttpHandler health_handler(Loop& loop, Caller<Inspect, Json> module, std::string op, Duration deadline) {
  return [&loop, module = std::move(module), op = std::move(op), deadline](std::function<void(HttpReply)> done) {
    module.call(loop, Inspect{op, Json::object()}, deadline, [done = std::move(done)](const Result<Json>& answer) {
      Json body = answer ? *answer : Json{{"healthy", false}, {"error", answer.error().message()}};
      const bool healthy = body.is_object() && body.value("healthy", Json()) == true;
      done({.status = healthy ? 200 : 503, .content_type = "application/json", .body = body.dump() + "\n"});
    });
  };
}

HttpRequestLine parse_request_line(std::string_view head) {
  const std::string_view line = head.substr(0, head.find("\r\n"));
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == 0 || first == std::string_view::npos || last == first || !line.substr(last + 1).starts_with("HTTP/1.")) {
    return {};
  }
  const std::string_view target = line.substr(first + 1, last - first - 1);
  if (!target.starts_with('/')) return {};
  return {line.substr(0, first), target.substr(0, target.find('?'))};
}

}  // namespace fairlead::server
