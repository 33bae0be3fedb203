// SPDX-License-Identifier: Apache-2.0
// fl-echo serve: HTTP/1.1 with keep-alive, TCP by line and UDP by datagram, on one epoll loop.
//
//   /           {"name": …, "peer": "IP:PORT", "path": …}
//   /healthz    200, or 503 while the --unready-file exists
//   /slow/N     the answer of / after N milliseconds
//   /exit/N     ends the process at once with status N, unanswered
//
// SIGTERM closes the listeners at once (a harsh server: what is still in the accept queue is reset). Requests in hand
// are finished; a keep-alive connection is told `Connection: close` with its next answer, and is only cut when --drain
// has passed. Exit status 0.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <unordered_map>

#include "test/tools/echo/net.h"

namespace fairlead::echo {
namespace {

int open_socket(int type, long port) {
  // One socket for both families; a kernel without IPv6 gets an IPv4 one.
  sockaddr_storage address{};
  socklen_t length = 0;
  int fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1, off = 0;
  if (fd >= 0) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(static_cast<std::uint16_t>(port));
    length = sizeof v6;
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  } else {
    fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    auto& v4 = reinterpret_cast<sockaddr_in&>(address);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(static_cast<std::uint16_t>(port));
    length = sizeof v4;
  }
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) fatal("bind port " + std::to_string(port));
  if (type == SOCK_STREAM && listen(fd, 4096) != 0) fatal("listen on port " + std::to_string(port));
  return fd;
}

class Server {
 public:
  explicit Server(const Flags& flags)
      : name_(server_name(flags)),
        unready_file_(flags.text("unready-file")),
        drain_(flags.duration("drain", milliseconds(10000))) {
    raise_file_limit();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    signals_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    watch(signals_, EPOLLIN, EPOLL_CTL_ADD);
    if (const long port = flags.number("http", 0))
      watch(http_ = open_socket(SOCK_STREAM, port), EPOLLIN, EPOLL_CTL_ADD);
    if (const long port = flags.number("tcp", 0)) watch(tcp_ = open_socket(SOCK_STREAM, port), EPOLLIN, EPOLL_CTL_ADD);
    if (const long port = flags.number("udp", 0)) watch(udp_ = open_socket(SOCK_DGRAM, port), EPOLLIN, EPOLL_CTL_ADD);
    if (http_ < 0 && tcp_ < 0 && udp_ < 0) usage("serve needs --http, --tcp or --udp");
    std::printf("%s is serving\n", name_.c_str());
    std::fflush(stdout);
  }

  int run() {
    while (!(stopping() && (connections_.empty() || Clock::now() >= *stop_at_))) {
      epoll_event events[256];
      const int count = epoll_wait(epoll_, events, 256, timeout());
      for (int i = 0; i < count; ++i) handle(events[i].data.fd, events[i].events);
      resume_delayed();
    }
    std::printf("%s ends, %zu connections left\n", name_.c_str(), connections_.size());
    return 0;
  }

 private:
  struct Connection {
    bool http = false;
    std::string peer;
    std::string in, out;
    bool closing = false;         // no more answers: end when `out` is sent
    std::optional<Time> held_to;  // an answer in preparation (/slow)
  };

  static std::string server_name(const Flags& flags) {
    if (auto name = flags.text("name"); !name.empty()) return name;
    if (const char* pod = std::getenv("POD_NAME")) return pod;
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    return host;
  }

  bool stopping() const { return stop_at_.has_value(); }

  int timeout() const {
    std::optional<Time> next = stop_at_;
    for (const auto& [fd, connection] : connections_) {
      if (connection.held_to && (!next || *connection.held_to < *next)) next = connection.held_to;
    }
    if (!next) return -1;
    return std::max(0, static_cast<int>(std::chrono::ceil<milliseconds>(*next - Clock::now()).count()));
  }

  void watch(int fd, std::uint32_t events, int how) const {
    epoll_event event{.events = events, .data = {.fd = fd}};
    if (epoll_ctl(epoll_, how, fd, &event) != 0) fatal("epoll_ctl");
  }

  void handle(int fd, std::uint32_t events) {
    if (fd == signals_) return stop();
    if (fd == http_ || fd == tcp_) return accept_all(fd);
    if (fd == udp_) return answer_datagrams();
    const auto it = connections_.find(fd);
    if (it == connections_.end()) return;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
      if (!receive(fd, it->second)) return end(fd);
    }
    advance(fd, it->second);
  }

  void stop() {
    stop_at_ = Clock::now() + drain_;
    for (int* listener : {&http_, &tcp_}) {
      if (*listener >= 0) close(*listener);
      *listener = -1;
    }
    if (udp_ >= 0) {
      answer_datagrams();
      close(udp_);
      udp_ = -1;
    }
    signalfd_siginfo info;
    while (read(signals_, &info, sizeof info) > 0) {
    }
    // A line client has no word for "close": it is told by the end of the stream, after what it has sent was answered.
    std::vector<int> lines;
    for (const auto& [fd, connection] : connections_) {
      if (!connection.http) lines.push_back(fd);
    }
    for (const int fd : lines) {
      auto& connection = connections_.at(fd);
      if (!receive(fd, connection)) {
        end(fd);
        continue;
      }
      answer(connection);
      connection.closing = true;
      advance(fd, connection);
    }
  }

  void accept_all(int listener) {
    for (;;) {
      sockaddr_storage address{};
      socklen_t length = sizeof address;
      const int fd = accept4(listener, reinterpret_cast<sockaddr*>(&address), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      connections_[fd] = {
          .http = listener == http_, .peer = text(address), .in = {}, .out = {}, .closing = false, .held_to = {}};
      watch(fd, EPOLLIN, EPOLL_CTL_ADD);
    }
  }

  void answer_datagrams() {
    char data[2048];
    for (;;) {
      sockaddr_storage peer{};
      socklen_t length = sizeof peer;
      const ssize_t size = recvfrom(udp_, data, sizeof data, 0, reinterpret_cast<sockaddr*>(&peer), &length);
      if (size < 0) return;
      const std::string reply = name_ + " " + text(peer) + " " + std::string(data, static_cast<std::size_t>(size));
      sendto(udp_, reply.data(), reply.size(), 0, reinterpret_cast<sockaddr*>(&peer), length);
    }
  }

  // Reads what is there; false when the peer is gone.
  static bool receive(int fd, Connection& connection) {
    char data[16384];
    for (;;) {
      const ssize_t size = read(fd, data, sizeof data);
      if (size > 0) {
        connection.in.append(data, static_cast<std::size_t>(size));
        continue;
      }
      return size < 0 && errno == EAGAIN;
    }
  }

  // Answers complete requests, sends, and ends the connection when its last answer is out.
  void advance(int fd, Connection& connection) {
    if (!connection.closing) answer(connection);
    while (!connection.out.empty()) {
      const ssize_t size = send(fd, connection.out.data(), connection.out.size(), 0);
      if (size < 0 && errno == EAGAIN) return watch(fd, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
      if (size < 0) return end(fd);
      connection.out.erase(0, static_cast<std::size_t>(size));
    }
    if (connection.closing) return end(fd);
    watch(fd, EPOLLIN, EPOLL_CTL_MOD);
  }

  void answer(Connection& connection) {
    if (!connection.http) {
      for (std::size_t end; (end = connection.in.find('\n')) != std::string::npos; connection.in.erase(0, end + 1)) {
        connection.out += name_ + " " + connection.peer + " " + connection.in.substr(0, end + 1);
      }
      return;
    }
    // One request at a time: its end is the empty line (no request of ours has a body).
    while (!connection.closing && !connection.held_to) {
      const auto end = connection.in.find("\r\n\r\n");
      if (end == std::string::npos) return;
      const std::string head = connection.in.substr(0, end + 2);
      const auto from = head.find(' '), to = head.find(' ', from + 1);
      const std::string path =
          from == std::string::npos || to == std::string::npos ? "/" : head.substr(from + 1, to - from - 1);
      if (path.starts_with("/exit/")) std::_Exit(std::atoi(path.c_str() + 6));
      if (path.starts_with("/slow/")) {
        connection.held_to = Clock::now() + milliseconds(std::atol(path.c_str() + 6));
        return;
      }
      connection.in.erase(0, end + 4);
      respond(connection, head, path);
    }
  }

  void respond(Connection& connection, const std::string& head, const std::string& path) {
    const bool unready = path == "/healthz" && !unready_file_.empty() && access(unready_file_.c_str(), F_OK) == 0;
    const std::string body =
        "{\"name\": \"" + name_ + "\", \"peer\": \"" + connection.peer + "\", \"path\": \"" + path + "\"}\n";
    connection.closing = stopping() || head.find("Connection: close\r\n") != std::string::npos;
    connection.out += std::string("HTTP/1.1 ") + (unready ? "503 Service Unavailable" : "200 OK") +
                      "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
                      (connection.closing ? "\r\nConnection: close" : "") + "\r\n\r\n" + body;
  }

  void resume_delayed() {
    const auto now = Clock::now();
    std::vector<int> due;
    for (const auto& [fd, connection] : connections_) {
      if (connection.held_to && *connection.held_to <= now) due.push_back(fd);
    }
    for (const int fd : due) {
      auto& connection = connections_.at(fd);
      connection.held_to.reset();
      const auto end = connection.in.find("\r\n\r\n");
      const std::string head = connection.in.substr(0, end + 2);
      connection.in.erase(0, end + 4);
      respond(connection, head, "/slow");
      advance(fd, connection);
    }
  }

  void end(int fd) {
    close(fd);
    connections_.erase(fd);
  }

  const std::string name_;
  const std::string unready_file_;
  const milliseconds drain_;
  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  int signals_ = -1, http_ = -1, tcp_ = -1, udp_ = -1;
  std::unordered_map<int, Connection> connections_;
  std::optional<Time> stop_at_;
};

}  // namespace

int serve(const Flags& flags) {
  return Server(flags).run();
}

}  // namespace fairlead::echo
