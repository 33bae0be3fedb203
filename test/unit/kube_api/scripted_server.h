// SPDX-License-Identifier: Apache-2.0
// An HTTP/1.1 server on loopback that answers as a test says, also as no real API server would; and the frames of
// watches.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/base/result.h"

namespace fairlead::kube {

struct ScriptedAnswer {
  int status = 200;
  std::string body;
  std::string headers;  // "Retry-After: 1\r\n"
  bool hold = false;    // after the body nothing more comes, and no end either
};

// Owner: the test. A thread accepts, one more serves each connection; `answer` runs on those, one call at a time.
class ScriptedServer {
 public:
  // `request`: "GET /path", then headers and body as they came.
  using Answer = std::function<ScriptedAnswer(const std::string& request)>;

  explicit ScriptedServer(Answer answer) : answer_(std::move(answer)) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    bind(fd_, reinterpret_cast<sockaddr*>(&address), size);
    listen(fd_, 16);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    url_ = fmt::format("http://127.0.0.1:{}", ntohs(address.sin_port));
    threads_.emplace_back([this](const std::stop_token& stop) { accept_all(stop); });
  }
  ~ScriptedServer() {
    for (auto& thread : threads_) thread.request_stop();
    threads_.clear();
    close(fd_);
  }

  const std::string& url() const { return url_; }
  std::vector<std::string> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  static bool readable(int fd, const std::stop_token& stop) {
    pollfd waiting{fd, POLLIN, 0};
    while (!stop.stop_requested()) {
      if (poll(&waiting, 1, 20) > 0) return true;
    }
    return false;
  }

  void accept_all(const std::stop_token& stop) {
    std::list<std::jthread> connections;  // ended, then joined, with this thread
    while (readable(fd_, stop)) {
      const int peer = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      connections.emplace_back([this, peer](const std::stop_token& end) {
        serve(peer, end);
        close(peer);
      });
    }
  }

  void serve(int peer, const std::stop_token& stop) {
    std::string buffer;
    while (readable(peer, stop)) {
      char piece[4096];
      const ssize_t size = recv(peer, piece, sizeof(piece), 0);
      if (size <= 0) return;
      buffer.append(piece, static_cast<std::size_t>(size));
      const std::size_t head = buffer.find("\r\n\r\n");
      if (head == buffer.npos) continue;
      const std::size_t length = buffer.find("Content-Length: ");
      const std::size_t body = length < head ? std::stoul(buffer.substr(length + 16)) : 0;
      if (buffer.size() < head + 4 + body) continue;
      ScriptedAnswer answer;
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(buffer);
        answer = answer_(buffer);
      }
      buffer.clear();
      const std::string length_line = answer.hold ? "" : fmt::format("Content-Length: {}\r\n", answer.body.size());
      const std::string text =
          fmt::format("HTTP/1.1 {} Scripted\r\n{}{}\r\n{}", answer.status, length_line, answer.headers, answer.body);
      send(peer, text.data(), text.size(), MSG_NOSIGNAL);
      if (!answer.hold) continue;
      while (readable(peer, stop)) {
        if (recv(peer, piece, sizeof(piece), 0) <= 0) return;
      }
    }
  }

  Answer answer_;
  int fd_;
  std::string url_;
  std::mutex mutex_;
  std::vector<std::string> requests_;
  std::list<std::jthread> threads_;
};

}  // namespace fairlead::kube
