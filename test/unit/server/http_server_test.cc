// SPDX-License-Identifier: Apache-2.0
#include "agent/server/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <optional>
#include <thread>

#include "agent/base/unique_fd.h"

namespace fairlead::server {
namespace {

const SocketAddress kAnyPort{IpAddress::from_v4({127, 0, 0, 1}), 0};

// Sends `request` as it stands and reads until the server closes.
std::string converse(std::uint16_t port, const std::string& request) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
  std::string all;
  char buffer[4096];
  for (ssize_t size = 0; (size = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) {
    all.append(buffer, static_cast<std::size_t>(size));
  }
  return all;
}

std::string get(std::uint16_t port, const std::string& path, const std::string& method = "GET") {
  return converse(port, method + " " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
}

HttpHandler always(HttpReply reply) {
  return [reply](const std::function<void(HttpReply)>& done) { done(reply); };
}

// A server on a loop of its own.
class HttpServerTest : public testing::Test {
 protected:
  ~HttpServerTest() override {
    loop_.stop();
    thread_.join();
    server_.reset();
  }
  std::uint16_t start(std::map<std::string, HttpHandler> handlers, const SocketAddress& address = kAnyPort) {
    server_.emplace(loop_, std::move(handlers), StreamLimits{.patience = std::chrono::milliseconds(50)});
    const auto started = server_->start(address);
    EXPECT_TRUE(started) << started.error().message();
    thread_ = std::jthread([this] { loop_.run(); });
    return server_->port();
  }

  Loop loop_;
  std::optional<HttpServer> server_;
  std::jthread thread_;
};

TEST_F(HttpServerTest, AnswersItsPathsAndNoOthers) {
  const std::uint16_t port =
      start({{"/healthz", always({.status = 503, .content_type = "application/json", .body = "{}"})},
             {"/livez", always({.body = "ok"})}});
  ASSERT_NE(port, 0);
  const std::string health = get(port, "/healthz");
  EXPECT_TRUE(health.starts_with("HTTP/1.1 503 Service Unavailable\r\n")) << health;
  EXPECT_NE(health.find("Content-Type: application/json\r\n"), std::string::npos) << health;
  EXPECT_TRUE(health.ends_with("\r\n\r\n{}")) << health;
  EXPECT_TRUE(get(port, "/livez?verbose").ends_with("\r\n\r\nok"));
  const std::string head = get(port, "/livez", "HEAD");
  EXPECT_TRUE(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n")) << head;
  EXPECT_TRUE(get(port, "/etc/passwd").starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(get(port, "/livez", "POST").starts_with("HTTP/1.1 405 "));
}

TEST_F(HttpServerTest, NonsenseAndSlownessHarmOnlyThemselves) {
  const std::uint16_t port = start({{"/livez", always({.body = "ok"})}});
  EXPECT_TRUE(converse(port, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(converse(port, "GET /livez HTTP/1.1\r\nX: " + std::string(9000, 'x')).starts_with("HTTP/1.1 431 "));
  EXPECT_EQ(converse(port, "GET /livez"), "");  // ended when its time was up
  EXPECT_TRUE(get(port, "/livez").ends_with("ok"));
}

TEST_F(HttpServerTest, AHandlerMayAnswerLater) {
  Subscription later;
  const std::uint16_t port = start({{"/slow", [&](std::function<void(HttpReply)> done) {
                                       later = loop_.after(std::chrono::milliseconds(80), [done = std::move(done)] {
                                         done({.body = "late"});  // later than a client's own patience
                                       });
                                     }}});
  EXPECT_TRUE(get(port, "/slow").ends_with("late"));
}

TEST_F(HttpServerTest, ListensOnIpv6) {
  EXPECT_NE(start({}, {*IpAddress::parse("::1"), 0}), 0);
}

TEST_F(HttpServerTest, SaysWhyItCannotListen) {
  const std::uint16_t port = start({});
  HttpServer second(loop_, {});
  const auto started = second.start({kAnyPort.address, port});
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().what, fmt::format("serve HTTP on 127.0.0.1:{}", port));
}

TEST(HealthHandler, IsAsHealthyAsTheModuleSays) {
  Loop loop;
  auto [caller, responder] = make_request<Inspect, Json>();
  Result<Json> says = Json{{"healthy", true}};
  responder.attach(loop, [&](const Inspect& request, Reply<Json> reply) {
    EXPECT_EQ(request.op, "health.live");
    reply(says);
  });
  const HttpHandler handler = health_handler(loop, caller, "health.live", std::chrono::seconds(5));
  const auto ask = [&] {
    std::optional<HttpReply> reply;
    handler([&](HttpReply made) { reply = std::move(made); });
    while (!reply) loop.poll();
    return *reply;
  };
  EXPECT_EQ(ask().status, 200);
  EXPECT_EQ(ask().body, "{\"healthy\":true}\n");
  for (Result<Json> bad : {Result<Json>(Json{{"healthy", false}}), Result<Json>(Json{{"healthy", "true"}}),
                           Result<Json>(Json(7)), Result<Json>(fail(Code::kTimeout, "late"))}) {
    says = bad;
    EXPECT_EQ(ask().status, 503);
  }
  EXPECT_NE(ask().body.find("late"), std::string::npos);
}

TEST(HttpRequestLine, IsParsed) {
  EXPECT_EQ(parse_request_line("GET /a/b?c=d HTTP/1.0\r\n").path, "/a/b");
  EXPECT_EQ(parse_request_line("HEAD / HTTP/1.1\r\n").method, "HEAD");
  for (const char* bad : {"", " ", "GET", "GET /", "GET / HTTP/2", " / HTTP/1.1", "GET a HTTP/1.1", "GET  HTTP/1.1"}) {
    EXPECT_TRUE(parse_request_line(bad).method.empty()) << bad;
  }
}

TEST(MetricsHandler, ServesTheRegistryAsText) {
  auto registry = std::make_shared<metrics::Registry>();
  metrics::counter(*registry, "things_total", "Things", {{"kind", "a"}}).Increment(3);
  HttpReply reply;
  metrics_handler(registry)([&](HttpReply made) { reply = std::move(made); });
  EXPECT_EQ(reply.status, 200);
  EXPECT_TRUE(reply.content_type.starts_with("text/plain; version=0.0.4"));
  EXPECT_NE(reply.body.find("# TYPE things_total counter\nthings_total{kind=\"a\"} 3"), std::string::npos)
      << reply.body;
}

}  // namespace
}  // namespace fairlead::server
