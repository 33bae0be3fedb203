// SPDX-License-Identifier: Apache-2.0
// fl-echo get: N requests one after the other, each from a socket of its own; prints how often each server answered.
//
// It also checks what a client behind a Service may rely on: getpeername and the source of a UDP answer are the address
// that was called. A failed request is named on stderr and makes the exit status 1.
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "test/tools/echo/net.h"

namespace fairlead::echo {
namespace {

std::runtime_error errno_error(const std::string& call) {
  return std::runtime_error(call + ": " + std::strerror(errno));
}

// A socket that is closed at the end of its scope; every wait ends at `deadline`.
class Socket {
 public:
  Socket(const Target& target, int type, Time deadline)
      : fd_(socket(target.address.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)), deadline_(deadline) {
    if (fd_ < 0) throw errno_error("socket");
  }
  ~Socket() { close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int fd() const { return fd_; }

  void wait(short events) const {
    pollfd item{.fd = fd_, .events = events, .revents = 0};
    const auto left = std::chrono::ceil<milliseconds>(deadline_ - Clock::now()).count();
    if (left <= 0 || poll(&item, 1, static_cast<int>(left)) == 0) throw std::runtime_error("timeout");
  }

 private:
  int fd_;
  Time deadline_;
};

void expect_address(const sockaddr_storage& got, const Target& target, const char* call) {
  if (text(got) != target.authority)
    throw std::runtime_error(call + (" is " + text(got)) + ", called " + target.authority);
}

// Sends `request` over a new stream and returns what comes until `complete` says that it is all.
template <class Complete>
std::string stream_exchange(const Target& target, Time deadline, const std::string& request, Complete complete) {
  const Socket socket(target, SOCK_STREAM, deadline);
  const auto* address = reinterpret_cast<const sockaddr*>(&target.address);
  if (connect(socket.fd(), address, target.length) != 0) {
    if (errno != EINPROGRESS) throw errno_error("connect");
    socket.wait(POLLOUT);
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    if ((errno = error)) throw errno_error("connect");
  }
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  if (getpeername(socket.fd(), reinterpret_cast<sockaddr*>(&peer), &length) != 0) throw errno_error("getpeername");
  expect_address(peer, target, "getpeername");
  if (send(socket.fd(), request.data(), request.size(), 0) != static_cast<ssize_t>(request.size()))
    throw errno_error("send");
  std::string answer;
  while (!complete(answer)) {
    socket.wait(POLLIN);
    char data[4096];
    const ssize_t size = recv(socket.fd(), data, sizeof data, 0);
    if (size < 0 && errno == EAGAIN) continue;
    if (size < 0) throw errno_error("recv");
    if (size == 0) throw std::runtime_error("closed before the answer");
    answer.append(data, static_cast<std::size_t>(size));
  }
  return answer;
}

std::string http_exchange(const Target& target, Time deadline) {
  const auto body_at = [](const std::string& answer) { return answer.find("\r\n\r\n"); };
  const std::string request =
      "GET " + target.path + " HTTP/1.1\r\nHost: " + target.authority + "\r\nConnection: close\r\n\r\n";
  const std::string answer = stream_exchange(target, deadline, request, [&](const std::string& so_far) {
    const auto head = body_at(so_far);
    const auto at = so_far.find("Content-Length: ");
    return head != std::string::npos && at < head && so_far.size() >= head + 4 + std::stoul(so_far.substr(at + 16));
  });
  if (!answer.starts_with("HTTP/1.1 200 ")) throw std::runtime_error(answer.substr(0, answer.find('\r')));
  return answer.substr(body_at(answer) + 4);
}

std::string udp_exchange(const Target& target, Time deadline) {
  const Socket socket(target, SOCK_DGRAM, deadline);
  if (sendto(socket.fd(), "who\n", 4, 0, reinterpret_cast<const sockaddr*>(&target.address), target.length) != 4) {
    throw errno_error("sendto");
  }
  socket.wait(POLLIN);
  char data[2048];
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  const ssize_t size = recvfrom(socket.fd(), data, sizeof data, 0, reinterpret_cast<sockaddr*>(&peer), &length);
  if (size < 0) throw errno_error("recvfrom");
  expect_address(peer, target, "source of the answer");
  return std::string(data, static_cast<std::size_t>(size));
}

std::string exchange(const Target& target, Time deadline) {
  if (target.scheme == "http") return http_exchange(target, deadline);
  if (target.scheme == "udp") return udp_exchange(target, deadline);
  return stream_exchange(target, deadline, "who\n", [](const std::string& answer) { return answer.ends_with('\n'); });
}

// {"name": "web-1", … or "web-1 PEER …"
std::string name_in(const std::string& answer) {
  static const std::string key = "\"name\": \"";
  if (const auto at = answer.find(key); at != std::string::npos) {
    return answer.substr(at + key.size(), answer.find('"', at + key.size()) - at - key.size());
  }
  return answer.substr(0, answer.find(' '));
}

}  // namespace

int get(const Flags& flags) {
  if (flags.alone.empty()) usage("get needs a URL");
  const auto target = Target::parse(flags.alone[0]);
  if (target.scheme != "http" && target.scheme != "tcp" && target.scheme != "udp")
    usage("get: http://, tcp:// or udp://");
  const long count = flags.alone.size() > 1 ? std::stol(flags.alone[1]) : 1;
  const auto limit = flags.duration("timeout", milliseconds(2000));
  std::map<std::string, long> answers;
  long failed = 0;
  for (long i = 0; i < count; ++i) {
    try {
      const std::string answer = exchange(target, Clock::now() + limit);
      ++answers[name_in(answer)];
      if (!flags.text("show").empty()) std::fputs(answer.c_str(), stdout);
    } catch (const std::runtime_error& error) {
      ++failed;
      std::fprintf(stderr, "%s\n", error.what());
    }
  }
  for (const auto& [name, times] : answers) std::printf("%s %ld\n", name.c_str(), times);
  if (failed) std::printf("failed %ld\n", failed);
  return failed ? 1 : 0;
}

}  // namespace fairlead::echo
