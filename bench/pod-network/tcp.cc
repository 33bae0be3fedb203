// SPDX-License-Identifier: Apache-2.0
#include "bench/pod-network/tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string_view>
#include <thread>
#include <vector>

namespace fairlead::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kBlock = 128U << 10;
// Whatever the machine's default is: one that paces by what it believes of the path (BBR) measures that belief.
constexpr std::string_view kCongestion = "cubic";

// The calling thread stays on one processor.
void stay_on(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu % std::max(std::thread::hardware_concurrency(), 1U), &set);
  (void)sched_setaffinity(0, sizeof(set), &set);
}

Result<> listen_on(UniqueFd& listener, sockaddr_in& name) {
  socklen_t size = sizeof(name);
  listener = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&name), size) != 0 || listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0) {
    return fail_errno(errno, "listen");
  }
  return {};
}

// For what the other end sends.
void wait_at_most(int fd, std::chrono::microseconds time) {
  const timeval limit{.tv_sec = time.count() / 1'000'000, .tv_usec = time.count() % 1'000'000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

void prepare(int fd) {
  const int on = 1;
  const timeval patience{.tv_sec = 10, .tv_usec = 0};
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kCongestion.data(), kCongestion.size());
  wait_at_most(fd, std::chrono::seconds(10));
}

}  // namespace

Result<Tcp> Tcp::connect(const testkit::PodNetns& client, const testkit::PodNetns& server, const IpAddress& address) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = address.v4_be();
  Tcp tcp;
  UniqueFd listener;
  Result<> done;
  server.run([&] { done = listen_on(listener, name); });
  FL_TRY(done);
  client.run([&] {
    tcp.client_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    prepare(tcp.client_.get());
    if (::connect(tcp.client_.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) {
      done = fail_errno(errno, fmt::format("connect {}", address));
    }
  });
  FL_TRY(done);
  tcp.server_ = UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!tcp.server_) return fail_errno(errno, "accept");
  prepare(tcp.server_.get());
  return tcp;
}

Result<double> Tcp::throughput(std::chrono::milliseconds time) {
  wait_at_most(server_.get(), std::chrono::milliseconds(20));
  std::atomic<bool> over = false;
  std::atomic<std::uint64_t> got = 0;
  std::uint64_t sent = 0;
  bool failed = false;
  std::jthread receiver([&] {
    stay_on(1);
    std::vector<char> block(kBlock);
    while (!over || got < sent) {
      const ssize_t size = recv(server_.get(), block.data(), block.size(), 0);
      if (size > 0) got += static_cast<std::uint64_t>(size);
    }
  });
  std::uint64_t bytes = 0;
  double seconds = 0;
  std::jthread sender([&] {
    stay_on(0);
    const std::vector<char> block(kBlock);
    const auto send_until = [&](Clock::time_point end) {
      while (!failed && Clock::now() < end) {
        const ssize_t size = send(client_.get(), block.data(), block.size(), MSG_NOSIGNAL);
        failed = size <= 0;
        if (!failed) sent += static_cast<std::uint64_t>(size);
      }
    };
    send_until(Clock::now() + time / 5);  // the window opens
    const auto begin = Clock::now();
    const std::uint64_t before = got;
    send_until(begin + time);
    bytes = got - before;
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  });
  sender.join();
  over = true;
  receiver.join();
  if (failed) return fail(Code::kSystem, "the connection broke");
  return static_cast<double>(bytes) * 8 / seconds;
}

Result<double> Tcp::round_trip(unsigned count) {
  wait_at_most(server_.get(), std::chrono::seconds(10));
  bool failed = false;
  double seconds = 0;
  std::jthread server([&] {
    stay_on(1);
    char byte = 0;
    for (unsigned i = 0; i < count; ++i) {
      if (recv(server_.get(), &byte, 1, 0) != 1 || send(server_.get(), &byte, 1, MSG_NOSIGNAL) != 1) return;
    }
  });
  std::jthread client([&] {
    stay_on(0);
    char byte = 0;
    const auto begin = Clock::now();
    for (unsigned i = 0; i < count && !failed; ++i) {
      failed = send(client_.get(), &byte, 1, MSG_NOSIGNAL) != 1 || recv(client_.get(), &byte, 1, 0) != 1;
    }
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  });
  client.join();
  server.join();
  if (failed) return fail(Code::kSystem, "the connection broke");
  return seconds * 1e6 / count;
}

}  // namespace fairlead::bench
