// SPDX-License-Identifier: Apache-2.0
// fl-echo judges the product in demo and end-to-end tests; here it is judged itself, on loopback.
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "test/kit/process.h"

namespace fairlead::testkit {
namespace {

using testing::HasSubstr;

class EchoTest : public testing::Test {
 protected:
  EchoTest() {
    auto started = Process::start({FL_ECHO, "serve", "--name", "one", "--http", port(0), "--tcp", port(1), "--udp",
                                   port(2), "--unready-file", unready_},
                                  "/dev/null");
    EXPECT_TRUE(started) << started.error().message();
    server_ = std::move(*started);
    EXPECT_TRUE(eventually([&] { return run("get " + url("http")).code == 0; }));
  }
  ~EchoTest() override { std::filesystem::remove(unready_); }

  // Ports that nobody else has at this moment.
  static std::vector<std::string> free_ports() {
    std::vector<std::string> ports;
    std::vector<int> sockets;
    for (int i = 0; i < 4; ++i) {
      sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
      socklen_t size = sizeof address;
      sockets.push_back(socket(AF_INET, SOCK_STREAM, 0));
      bind(sockets.back(), reinterpret_cast<sockaddr*>(&address), size);
      getsockname(sockets.back(), reinterpret_cast<sockaddr*>(&address), &size);
      ports.push_back(std::to_string(ntohs(address.sin_port)));
    }
    for (const int fd : sockets) close(fd);
    return ports;
  }
  std::string port(std::size_t which) const { return ports_[which]; }
  std::string url(const std::string& scheme, const std::string& host = "127.0.0.1") const {
    return scheme + "://" + host + ":" + port(scheme == "http" ? 0 : scheme == "tcp" ? 1 : 2);
  }
  static CommandResult run(const std::string& args) { return run_command(FL_ECHO " " + args); }
  static nlohmann::json load(const std::string& args) {
    const auto output = run("load " + args + " 2>/dev/null").output;
    return nlohmann::json::parse(output, nullptr, false);
  }

  const std::vector<std::string> ports_ = free_ports();
  const std::string unready_ = "/tmp/fl-echo-test-unready." + std::to_string(getpid());
  Process server_;
};

TEST_F(EchoTest, SaysWhoItIsAndWhoCalledOverEveryProtocolAndFamily) {
  for (const std::string scheme : {"http", "tcp", "udp"}) {
    for (const std::string host : {"127.0.0.1", "[::1]"}) {
      const auto got = run("get " + url(scheme, host) + " 3 --show yes");
      EXPECT_EQ(got.code, 0) << scheme << " " << host << ": " << got.output;
      EXPECT_THAT(got.output, HasSubstr(host + ":"));
      EXPECT_THAT(got.output, HasSubstr("one 3\n"));
    }
  }
}

TEST_F(EchoTest, HealthFollowsTheUnreadyFile) {
  EXPECT_EQ(run("get " + url("http") + "/healthz").code, 0);
  std::ofstream(unready_) << "";
  const auto got = run("get " + url("http") + "/healthz");
  EXPECT_EQ(got.code, 1);
  EXPECT_THAT(got.output, HasSubstr("503"));
}

TEST_F(EchoTest, LoadKeepsItsRateAndCountsBackends) {
  const auto report = load("--url " + url("http") + " --rate 200 --keepalive 4 --keepalive-rate 25 --duration 1s");
  EXPECT_EQ(report["failed"], 0) << report;
  EXPECT_NEAR(report["requests"].get<int>(), 300, 15) << report;
  EXPECT_NEAR(report["new_connections"].get<int>(), 204, 5) << report;
  EXPECT_EQ(report["by_backend"]["one"], report["requests"]);
}

TEST_F(EchoTest, EveryRefusedConnectionIsAFailure) {
  const auto report = load("--url http://127.0.0.1:" + port(3) + " --rate 100 --keepalive 0 --duration 1s");
  EXPECT_GT(report["failed"], 90) << report;
  EXPECT_EQ(report["failed"], report["requests"]);
  EXPECT_EQ(report["failures_by_kind"]["connect: Connection refused"], report["failed"]);
}

TEST_F(EchoTest, ALateAnswerIsAFailure) {
  const auto report = load("--url " + url("http") + "/slow/400 --rate 50 --keepalive 2 --timeout 200ms --duration 1s");
  EXPECT_GT(report["failed"], 40) << report;
  EXPECT_EQ(report["failed"], report["requests"]);
  EXPECT_EQ(
      report["failures_by_kind"]["timeout"].get<int>() + report["failures_by_kind"]["keep-alive: timeout"].get<int>(),
      report["failed"]);
}

// On SIGTERM the listener goes at once, and yet no request on an open connection is lost.
TEST_F(EchoTest, SigtermFinishesOpenRequestsAndKeepAliveClients) {
  auto slow = Process::start({FL_ECHO, "get", url("http") + "/slow/700"}, "/dev/null");
  const auto report = [&] {
    std::string text = "(sleep 0.4; kill -TERM " + std::to_string(server_.pid()) + ") & " FL_ECHO " load --url " +
                       url("http") + " --rate 0 --keepalive 10 --keepalive-rate 50 --duration 1s 2>/dev/null";
    return nlohmann::json::parse(run_command(text).output, nullptr, false);
  }();
  EXPECT_EQ(slow->stop(), 0);
  EXPECT_EQ(server_.stop(), 0);
  EXPECT_GT(report["by_backend"]["one"], 150) << report;
  EXPECT_EQ(report["failures_by_kind"].size(), 1U) << report;  // a new connection finds nobody; nothing else went wrong
  EXPECT_GT(report["failures_by_kind"]["keep-alive: connect: Connection refused"], 0) << report;
}

}  // namespace
}  // namespace fairlead::testkit
