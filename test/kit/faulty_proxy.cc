// SPDX-License-Identifier: Apache-2.0
#include "test/kit/faulty_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <list>
#include <mutex>
#include <utility>
#include <vector>

#include "agent/base/unique_fd.h"

namespace fairlead::testkit {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  int family() const { return storage.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Result<Address> parse_address(const std::string& text) {
  Address out;
  if (text.starts_with("unix:")) {
    auto* address = reinterpret_cast<sockaddr_un*>(&out.storage);
    const std::string path = text.substr(5);
    if (path.size() >= sizeof(address->sun_path)) return fail(Code::kInvalid, "{}: too long", text);
    address->sun_family = AF_UNIX;
    std::strcpy(address->sun_path, path.c_str());
    out.size = sizeof(sockaddr_un);
    return out;
  }
  auto* address = reinterpret_cast<sockaddr_in*>(&out.storage);
  const auto colon = text.rfind(':');
  address->sin_family = AF_INET;
  out.size = sizeof(sockaddr_in);
  if (colon == std::string::npos || inet_pton(AF_INET, text.substr(0, colon).c_str(), &address->sin_addr) != 1) {
    return fail(Code::kInvalid, "\"{}\" is no endpoint", text);
  }
  address->sin_port = htons(static_cast<std::uint16_t>(std::atoi(text.c_str() + colon + 1)));
  return out;
}

// One direction of a connection: what was read and is not written yet.
struct Pipe {
  struct Piece {
    Clock::time_point due;
    std::string bytes;
  };
  std::deque<Piece> pieces;
  bool ended = false;  // nothing more comes
};

struct Connection {
  UniqueFd client;
  UniqueFd server;  // none while none is wanted
  Pipe to_server;
  Pipe to_client;
  bool over = false;
};

constexpr std::size_t kBacklog = 1U << 20;  // bytes that a pipe holds before it is not read any more

std::size_t waiting(const Pipe& pipe) {
  std::size_t bytes = 0;
  for (const Pipe::Piece& piece : pipe.pieces) bytes += piece.bytes.size();
  return bytes;
}

}  // namespace

struct FaultyProxy::Relay {
  enum class Fault { kNone, kHang, kCut, kAnswer };

  UniqueFd listener;
  UniqueFd wake{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  Address server;
  std::string unix_path;  // to remove at the end
  std::list<Connection> connections;

  std::mutex lock;  // of what follows: the test sets it, the thread reads it
  Fault fault = Fault::kNone;
  Clock::duration lag{};
  std::string answer;
  bool stop = false;
  std::atomic<int> accepted = 0;

  ~Relay() {
    if (!unix_path.empty()) unlink(unix_path.c_str());
  }

  void set(Fault what, Clock::duration by = {}, std::string text = {}) {
    {
      const std::scoped_lock guard(lock);
      fault = what;
      lag = by;
      answer = std::move(text);
    }
    poke();
  }
  void poke() const {
    const std::uint64_t one = 1;
    (void)!write(wake.get(), &one, sizeof(one));
  }

  void run() {
    for (;;) {
      Fault now;
      Clock::duration by;
      std::string text;
      {
        const std::scoped_lock guard(lock);
        if (stop) return;
        now = fault;
        by = lag;
        text = answer;
      }
      if (now == Fault::kCut) connections.clear();
      for (Connection& one : connections) work(one, now, by, text);
      std::erase_if(connections, [](const Connection& one) { return one.over; });
      wait(now);
    }
  }

  // Everything that can be done for a connection without waiting.
  void work(Connection& one, Fault now, Clock::duration by, const std::string& text) {
    if (now == Fault::kHang) return;
    if (now == Fault::kAnswer) {
      std::array<char, 65536> bytes;
      const ssize_t size = recv(one.client.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (size < 0 && errno == EAGAIN && one.to_server.pieces.empty()) {
        one.over = one.server.get() >= 0;  // it was in the middle of something with the server
        return;
      }
      (void)send(one.client.get(), text.data(), text.size(), MSG_NOSIGNAL);
      one.over = true;
      return;
    }
    if (!one.server) {
      one.server = UniqueFd(socket(server.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (::connect(one.server.get(), server.get(), server.size) != 0 && errno != EINPROGRESS) {
        one.over = true;
        return;
      }
    }
    move(one.client, one.server, one.to_server, by, one.over);
    move(one.server, one.client, one.to_client, by, one.over);
  }

  static void move(const UniqueFd& from, const UniqueFd& to, Pipe& pipe, Clock::duration by, bool& over) {
    std::array<char, 65536> bytes;
    while (!pipe.ended && waiting(pipe) < kBacklog) {
      const ssize_t size = recv(from.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (size < 0 && (errno == EAGAIN || errno == ENOTCONN)) break;
      if (size <= 0) {
        pipe.ended = true;
        break;
      }
      pipe.pieces.push_back({Clock::now() + by, std::string(bytes.data(), static_cast<std::size_t>(size))});
    }
    while (!pipe.pieces.empty() && pipe.pieces.front().due <= Clock::now()) {
      std::string& piece = pipe.pieces.front().bytes;
      const ssize_t size = send(to.get(), piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (size < 0 && (errno == EAGAIN || errno == ENOTCONN)) return;
      if (size < 0) {
        over = true;
        return;
      }
      piece.erase(0, static_cast<std::size_t>(size));
      if (piece.empty()) pipe.pieces.pop_front();
    }
    if (pipe.ended && pipe.pieces.empty()) over = true;
  }

  // Until something may have become possible.
  void wait(Fault now) {
    std::vector<pollfd> fds{{wake.get(), POLLIN, 0}, {listener.get(), POLLIN, 0}};
    auto until = Clock::now() + 60s;
    for (const Connection& one : connections) {
      if (now == Fault::kHang) break;
      const auto watch = [&](const UniqueFd& fd, const Pipe& in, const Pipe& out) {
        if (!fd) return;
        const bool due = !out.pieces.empty() && out.pieces.front().due <= Clock::now();
        if (!out.pieces.empty() && !due) until = std::min(until, out.pieces.front().due);
        const bool reads = !in.ended && waiting(in) < kBacklog;
        fds.push_back({fd.get(), static_cast<short>((reads ? POLLIN : 0) | (due ? POLLOUT : 0)), 0});
      };
      watch(one.client, one.to_server, one.to_client);
      watch(one.server, one.to_client, one.to_server);
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    poll(fds.data(), fds.size(), static_cast<int>(std::max<std::int64_t>(left, 0)));
    std::uint64_t count = 0;
    (void)!read(wake.get(), &count, sizeof(count));
    for (;;) {
      UniqueFd client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!client) return;
      ++accepted;
      connections.emplace_back().client = std::move(client);
    }
  }
};

Result<FaultyProxy> FaultyProxy::start(const std::string& listen, const std::string& server) {
  auto relay = std::make_shared<Relay>();
  FL_LET(relay->server, parse_address(server));
  FL_LET(const Address here, parse_address(listen));
  relay->listener = UniqueFd(socket(here.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int one = 1;
  setsockopt(relay->listener.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (bind(relay->listener.get(), here.get(), here.size) != 0 || ::listen(relay->listener.get(), SOMAXCONN) != 0) {
    return fail_errno(errno, "faulty proxy at " + listen);
  }
  if (listen.starts_with("unix:")) relay->unix_path = listen.substr(5);
  return FaultyProxy(std::move(relay));
}

FaultyProxy::FaultyProxy(std::shared_ptr<Relay> relay)
    : relay_(std::move(relay)), thread_([relay = relay_] { relay->run(); }) {}
FaultyProxy::FaultyProxy(FaultyProxy&&) noexcept = default;

FaultyProxy::~FaultyProxy() {
  if (!relay_) return;
  {
    const std::scoped_lock guard(relay_->lock);
    relay_->stop = true;
  }
  relay_->poke();
  thread_.join();
}

void FaultyProxy::pass() {
  relay_->set(Relay::Fault::kNone);
}
void FaultyProxy::hang() {
  relay_->set(Relay::Fault::kHang);
}
void FaultyProxy::cut() {
  relay_->set(Relay::Fault::kCut);
}
void FaultyProxy::delay(std::chrono::milliseconds by) {
  relay_->set(Relay::Fault::kNone, by);
}
void FaultyProxy::answer_with(const std::string& text) {
  relay_->set(Relay::Fault::kAnswer, {}, text);
}
int FaultyProxy::connections() const {
  return relay_->accepted;
}

}  // namespace fairlead::testkit
