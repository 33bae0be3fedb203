// SPDX-License-Identifier: Apache-2.0
#include "agent/base/local_protocol.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <thread>

namespace fairlead {
namespace {

using namespace std::chrono_literals;

// A peer that accepts one connection and runs `serve` on it.
class Peer {
 public:
  explicit Peer(std::function<void(int)> serve)
      : path_(testing::TempDir() + "local_protocol_test." + std::to_string(::getpid())) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, path_.size());
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_, 4), 0);
    thread_ = std::jthread([this, serve = std::move(serve)] {
      const int fd = ::accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      serve(fd);
      ::close(fd);
    });
  }
  ~Peer() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
    ::unlink(path_.c_str());
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int listener_ = -1;
  std::jthread thread_;
};

Json read_request(int fd) {
  std::string received;
  char buffer[4096];
  while (true) {
    const ssize_t size = ::recv(fd, buffer, sizeof buffer, 0);
    if (size <= 0) return nullptr;
    received.append(buffer, static_cast<std::size_t>(size));
    auto message = take_local_message(received);
    if (!message) return nullptr;
    if (*message) return **message;
  }
}

void write_all(int fd, const std::string& bytes) {
  ASSERT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
}

TEST(LocalCall, CarriesTheRequestAndTheResult) {
  Json seen;
  Json answer;
  {
    Peer peer([&](int fd) {
      seen = read_request(fd);
      write_all(fd, encode_local_message(encode_local_answer(Json{{"n", 7}})));
    });
    const auto result = local_call(peer.path(), "service.list", {{"namespace", "a"}}, 5s);
    ASSERT_TRUE(result) << result.error().message();
    answer = *result;
  }
  EXPECT_EQ(seen, (Json{{"op", "service.list"}, {"args", {{"namespace", "a"}}}}));
  EXPECT_EQ(answer, (Json{{"n", 7}}));
}

TEST(LocalCall, CarriesLongMessagesBothWays) {
  const std::string text(1 << 20, 'x');
  Peer peer([&](int fd) {
    std::string received;
    const Json request = read_request(fd);
    const std::string answer = encode_local_message(encode_local_answer(request["args"]));
    for (std::size_t at = 0; at < answer.size(); at += 100'000) write_all(fd, answer.substr(at, 100'000));
  });
  const auto result = local_call(peer.path(), "echo", text, 20s);
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(*result, text);
}

TEST(LocalCall, TheAgentsErrorComesBackWithItsCode) {
  Peer peer([](int fd) {
    read_request(fd);
    write_all(fd, encode_local_message(encode_local_answer(fail(Code::kNotFound, "service \"a/b\" not found"))));
  });
  const auto result = local_call(peer.path(), "service.get", {}, 5s);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kNotFound);
  EXPECT_EQ(result.error().what, "service \"a/b\" not found");
}

TEST(LocalCall, NoAgentIsUnavailableAndNamesTheSocket) {
  const auto result = local_call("/nonexistent/agent.sock", "status", {}, 1s);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kUnavailable);
  EXPECT_NE(result.error().what.find("/nonexistent/agent.sock"), std::string::npos);
  EXPECT_EQ(local_call(std::string(200, 'p'), "status", {}, 1s).error().code, Code::kInvalid);
}

TEST(LocalCall, ASilentAgentTimesOut) {
  Peer peer([](int fd) {
    char byte = 0;
    while (::recv(fd, &byte, 1, 0) > 0) {
    }
  });
  const auto result = local_call(peer.path(), "status", {}, 30ms);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kTimeout);
}

TEST(LocalCall, AnAgentThatClosesOrTalksNonsenseIsAnError) {
  {
    Peer peer([](int fd) { read_request(fd); });
    EXPECT_EQ(local_call(peer.path(), "status", {}, 5s).error().code, Code::kUnavailable);
  }
  for (const std::string& bytes : {std::string("\xff\xff\xff\xff", 4), std::string("\0\0\0\2{x", 6),
                                   encode_local_message(Json::array({1})), encode_local_message({{"ok", "yes"}})}) {
    Peer peer([&](int fd) {
      read_request(fd);
      write_all(fd, bytes);
    });
    const auto result = local_call(peer.path(), "status", {}, 5s);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::kInvalid) << result.error().what;
  }
}

TEST(LocalMessage, IsTakenOnlyWholeAndInOrder) {
  const std::string both = encode_local_message(1) + encode_local_message("two");
  std::string received;
  std::vector<Json> taken;
  for (const char byte : both) {
    received.push_back(byte);
    const auto message = take_local_message(received);
    ASSERT_TRUE(message);
    if (*message) taken.push_back(**message);
  }
  EXPECT_EQ(taken, (std::vector<Json>{1, "two"}));
  EXPECT_TRUE(received.empty());
}

TEST(LocalMessage, DeepNestingIsCutNotFollowed) {
  const std::string text = std::string(1 << 18, '[') + std::string(1 << 18, ']');
  std::string received = {'\0', '\x08', '\0', '\0'};
  received += text;
  const auto message = take_local_message(received);
  ASSERT_TRUE(message);
  ASSERT_TRUE(*message);
  EXPECT_LT((*message)->dump().size(), 200U);
}

}  // namespace
}  // namespace fairlead
