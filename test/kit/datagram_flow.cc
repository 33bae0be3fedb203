// SPDX-License-Identifier: Apache-2.0
#include "test/kit/datagram_flow.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <set>

#include "agent/base/socket_name.h"

namespace fairlead::testkit {
namespace {

constexpr std::uint64_t kWindow = 8;                  // on the way at a time
constexpr auto kLostAfter = std::chrono::seconds(3);  // what has not come back by then, while nothing does, will not
constexpr long kPaceNs = 2'000'000;                   // between two looks at what came back

// Whether the socket can be read within the time.
bool readable(int fd, int timeout_ms) {
  pollfd wait{fd, POLLIN, 0};
  return poll(&wait, 1, timeout_ms) > 0;
}

// Numbers that came, each remembered until all before it have come.
class Seen {
 public:
  // False where it came before.
  bool add(std::uint64_t number) {
    if (number < below_ || !above_.insert(number).second) return false;
    while (above_.erase(below_) != 0) ++below_;
    ++count_;
    return true;
  }
  std::uint64_t count() const { return count_; }

 private:
  std::uint64_t below_ = 0;
  std::set<std::uint64_t> above_;
  std::uint64_t count_ = 0;
};

}  // namespace

std::string DatagramFlow::Counts::str() const {
  return fmt::format("sent {}, arrived {}, returned {}, repeated {} {}", sent, arrived, returned, repeated, refused);
}

struct DatagramFlow::Shared {
  UniqueFd client;
  UniqueFd server;
  UniqueFd pace;
  std::atomic<bool> sending = true;
  std::atomic<bool> serving = true;
  std::atomic<std::uint64_t> returned = 0;
  Counts there;  // the server's thread
  Counts here;   // the client's
  std::jthread serve_thread;
  std::jthread send_thread;

  static void note(Counts& counts, const char* what, int error) {
    if (counts.refused.empty()) counts.refused = fmt::format("{}: {}", what, strerror(error));
  }

  void serve() {
    Seen seen;
    std::uint64_t number = 0;
    while (serving) {
      SocketName from;
      if (!readable(server.get(), 100)) continue;
      if (recvfrom(server.get(), &number, sizeof(number), 0, from.get(), &from.size) != sizeof(number)) continue;
      if (!seen.add(number)) ++there.repeated;
      if (sendto(server.get(), &number, sizeof(number), 0, from.get(), from.size) < 0) note(there, "answer", errno);
    }
    there.arrived = seen.count();
  }

  // Takes what has come back; false where nothing had.
  bool receive(Seen& seen, int timeout_ms) {
    bool any = false;
    std::uint64_t number = 0;
    while (readable(client.get(), any ? 0 : timeout_ms)) {
      any = true;
      if (recv(client.get(), &number, sizeof(number), 0) != sizeof(number)) {
        note(here, "receive", errno);
      } else if (!seen.add(number)) {
        ++here.repeated;
      }
    }
    returned = seen.count();
    return any;
  }

  void send_all() {
    Seen seen;
    std::uint64_t next = 0;
    std::uint64_t lost = 0;
    auto last = std::chrono::steady_clock::now();
    for (std::uint64_t ticks = 0; sending; (void)!read(pace.get(), &ticks, sizeof(ticks))) {
      const auto now = std::chrono::steady_clock::now();
      if (receive(seen, 0)) last = now;
      if (now - last > kLostAfter) lost = next - seen.count();
      while (next - lost - seen.count() < kWindow) {
        if (send(client.get(), &next, sizeof(next), 0) < 0) {
          note(here, "send", errno);
          break;
        }
        ++next;
      }
    }
    while (seen.count() < next && receive(seen, std::chrono::milliseconds(kLostAfter).count())) {
    }
    here.sent = next;
    here.returned = seen.count();
  }
};

DatagramFlow::DatagramFlow(std::unique_ptr<Shared> shared) : shared_(std::move(shared)) {}
DatagramFlow::DatagramFlow(DatagramFlow&&) noexcept = default;

Result<DatagramFlow> DatagramFlow::start(const PodNetns& from, const PodNetns& to, const Endpoint& at) {
  auto shared = std::make_unique<Shared>();
  const int family = at.address.is_v4() ? AF_INET : AF_INET6;
  std::optional<Error> failed;
  SocketName name = socket_name(at.address, at.port);
  to.run([&] {
    shared->server = UniqueFd(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (bind(shared->server.get(), name.get(), name.size) != 0) {
      failed = fail_errno(errno, "bind " + to_string(at)).error();
    }
  });
  from.run([&] {
    shared->client = UniqueFd(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (connect(shared->client.get(), name.get(), name.size) != 0) {
      failed = fail_errno(errno, "connect " + to_string(at)).error();
    }
  });
  if (failed) return std::unexpected(std::move(*failed));
  shared->pace = UniqueFd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  const itimerspec tick{.it_interval = {0, kPaceNs}, .it_value = {0, kPaceNs}};
  if (timerfd_settime(shared->pace.get(), 0, &tick, nullptr) != 0) return fail_errno(errno, "timerfd_settime");
  shared->serve_thread = std::jthread([own = shared.get()] { own->serve(); });
  shared->send_thread = std::jthread([own = shared.get()] { own->send_all(); });
  return DatagramFlow(std::move(shared));
}

DatagramFlow::~DatagramFlow() {
  if (shared_ != nullptr) (void)stop();
}

std::uint64_t DatagramFlow::returned() const {
  return shared_->returned;
}

DatagramFlow::Counts DatagramFlow::stop() {
  shared_->sending = false;
  if (shared_->send_thread.joinable()) shared_->send_thread.join();
  shared_->serving = false;
  if (shared_->serve_thread.joinable()) shared_->serve_thread.join();
  Counts all = shared_->here;
  all.arrived = shared_->there.arrived;
  all.repeated += shared_->there.repeated;
  if (all.refused.empty()) all.refused = shared_->there.refused;
  return all;
}

}  // namespace fairlead::testkit
