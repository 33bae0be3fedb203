// SPDX-License-Identifier: Apache-2.0
#include "agent/server/local_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <fstream>
#include <thread>

namespace fairlead::server {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBigAnswer = 4U << 20;  // more than a socket's buffer holds

// A server on a loop of its own, and a module that answers "echo." operations on another.
class LocalServerTest : public testing::Test {
 protected:
  LocalServerTest()
      : folder_(std::filesystem::path(testing::TempDir()) / ("local_server_test." + std::to_string(::getpid()))) {
    std::filesystem::remove_all(folder_);
    auto [caller, responder] = make_request<Inspect, Json>();
    module_ = std::move(responder);
    module_.attach(module_loop_, [this](const Inspect& request, Reply<Json> reply) {
      if (request.op == "echo.never") {
        unanswered_.push_back(std::move(reply));
      } else if (request.op == "echo.missing") {
        reply(fail(Code::kNotFound, "nothing called {}", request.args.dump()));
      } else if (request.op == "echo.big") {
        reply(std::string(kBigAnswer, 'x'));
      } else {
        reply(Json{{"op", request.op}, {"args", request.args}});
      }
    });
    routes_ = {{"echo.", {caller, 5s}}, {"echo.never", {caller, 30ms}}};
    module_thread_ = std::jthread([this] { module_loop_.run(); });
  }

  ~LocalServerTest() override {
    if (server_thread_.joinable()) stop();
    module_loop_.stop();
    module_thread_.join();
    std::filesystem::remove_all(folder_);
  }

  void start(LocalServerLimits limits = {}) {
    server_.emplace(server_loop_, path(), routes_, limits);
    const auto started = server_->start();
    ASSERT_TRUE(started) << started.error().message();
    server_thread_ = std::jthread([this] { server_loop_.run(); });
  }
  void stop() {
    server_loop_.stop();
    server_thread_.join();
    server_.reset();
  }

  std::string path() const { return folder_ / "agent.sock"; }
  UniqueFd connect() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  // All that the server says until it closes.
  static std::string read_all(const UniqueFd& fd) {
    std::string all;
    char buffer[4096];
    for (ssize_t size = 0; (size = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) {
      all.append(buffer, static_cast<std::size_t>(size));
    }
    return all;
  }
  static Result<Json> answer_to(const UniqueFd& fd) {
    std::string all = read_all(fd);
    FL_LET(const auto message, take_local_message(all));
    if (!message) return fail(Code::kUnavailable, "closed");
    return decode_local_answer(*message);
  }

  std::filesystem::path folder_;
  Loop module_loop_, server_loop_;
  Responder<Inspect, Json> module_;
  std::vector<Reply<Json>> unanswered_;
  Routes routes_;
  std::optional<LocalServer> server_;
  std::jthread module_thread_, server_thread_;
};

TEST_F(LocalServerTest, TakesRequestsToTheirModule) {
  start();
  const auto result = local_call(path(), "echo.this", {{"a", 1}}, 5s);
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(*result, (Json{{"op", "echo.this"}, {"args", {{"a", 1}}}}));
  const auto missing = local_call(path(), "echo.missing", "x", 5s);
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_EQ(local_call(path(), "echo", {}, 5s).error().what, "no operation \"echo\"");
  EXPECT_EQ(local_call(path(), "other.this", {}, 5s).error().code, Code::kInvalid);
}

TEST_F(LocalServerTest, ASilentModuleCostsOnlyItsDeadline) {
  start();
  EXPECT_EQ(local_call(path(), "echo.never", {}, 5s).error().what, "no answer from the agent's module in time");
  EXPECT_TRUE(local_call(path(), "echo.this", {}, 5s));
}

TEST_F(LocalServerTest, TheSocketIsTheOwnersOnly) {
  start();
  struct stat seen{};
  ASSERT_EQ(::stat(path().c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 07777U, 0600U);
  ASSERT_EQ(::stat(folder_.c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 07777U, 0700U);
  stop();
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(LocalServerTest, ReplacesAStaleSocketButNeverALiveOneOrAFile) {
  start();
  LocalServer second(server_loop_, path(), routes_);
  EXPECT_EQ(second.start().error().code, Code::kExists);
  EXPECT_TRUE(local_call(path(), "echo.this", {}, 5s));
  stop();

  {  // a socket whose owner is gone
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  Loop loop;
  {
    LocalServer third(loop, path(), routes_);
    EXPECT_TRUE(third.start());
  }
  std::ofstream(path()) << "mine";
  LocalServer fourth(loop, path(), routes_);
  EXPECT_EQ(fourth.start().error().code, Code::kExists);
  EXPECT_TRUE(std::filesystem::exists(path()));
}

TEST_F(LocalServerTest, NonsenseIsAnsweredAndHarmsNobodyElse) {
  start();
  const UniqueFd quiet = connect();
  for (const std::string& bytes :
       {std::string("\xff\xff\xff\xff garbage"), std::string("\0\x20\0\0", 4), std::string("\0\0\0\2{]", 6),
        encode_local_message(7), encode_local_message({{"op", 7}}), encode_local_message(Json::object())}) {
    const UniqueFd fd = connect();
    ASSERT_EQ(::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    const auto answer = answer_to(fd);
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, Code::kInvalid) << answer.error().what;
  }
  connect().reset();
  EXPECT_TRUE(local_call(path(), "echo.this", {}, 5s));
}

TEST_F(LocalServerTest, ASlowClientIsEndedAndANewOneGetsItsPlace) {
  start({.streams = {.clients = 2, .patience = 30ms}});
  const UniqueFd one = connect(), two = connect();
  ASSERT_EQ(::send(one.get(), "\0\0", 2, MSG_NOSIGNAL), 2);
  EXPECT_TRUE(local_call(path(), "echo.this", {}, 5s));  // waits in the backlog until one is ended
  EXPECT_EQ(read_all(one), "");
  EXPECT_EQ(read_all(two), "");
}

TEST_F(LocalServerTest, AClientThatDoesNotReadItsAnswerIsEnded) {
  start({.streams = {.patience = 50ms}});
  const UniqueFd fd = connect();
  const std::string request = encode_local_message({{"op", "echo.big"}});
  ASSERT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
  EXPECT_TRUE(local_call(path(), "echo.this", {}, 5s));
  // Sending fails once the server has given up; what it sent until then is less than its answer.
  while (::send(fd.get(), "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 || errno == EAGAIN) std::this_thread::yield();
  EXPECT_LT(read_all(fd).size(), kBigAnswer);
}

TEST_F(LocalServerTest, ManyClientsAtOnce) {
  start({.streams = {.clients = 4}});
  std::atomic<int> good = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 16; ++i) {
      threads.emplace_back([&, i] {
        for (int n = 0; n < 20; ++n) {
          const auto result = local_call(path(), "echo.this", i, 10s);
          if (result && (*result)["args"] == i) ++good;
        }
      });
    }
  }
  EXPECT_EQ(good, 320);
}

TEST_F(LocalServerTest, AnAnswerAfterTheServersEndIsDropped) {
  routes_["echo.never"].deadline = 1h;
  start();
  const UniqueFd fd = connect();
  const std::string request = encode_local_message({{"op", "echo.never"}});
  ASSERT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
  while (true) {  // until the module has it
    auto [caller, responder] = make_request<int, bool>();
    responder.attach(module_loop_, [this](int, Reply<bool> reply) { reply(!unanswered_.empty()); });
    if (*caller.call_sync(0, 5s)) break;
  }
  stop();
  EXPECT_EQ(read_all(fd), "");
  unanswered_.clear();
}

}  // namespace
}  // namespace fairlead::server
