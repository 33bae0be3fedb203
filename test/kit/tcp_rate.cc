// SPDX-License-Identifier: Apache-2.0
#include "test/kit/tcp_rate.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "agent/base/socket_name.h"

namespace fairlead::testkit {
namespace {

constexpr int kBuffer = 8 << 20;  // of both ends: neither's thread has to run in time

UniqueFd open_socket(const Endpoint& at, int buffer) {
  UniqueFd fd(socket(at.address.is_v4() ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{.tv_sec = 20, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  setsockopt(fd.get(), SOL_SOCKET, buffer, &kBuffer, sizeof(kBuffer));
  return fd;
}

// Takes so many bytes; false where they do not come.
bool take(int fd, std::size_t bytes) {
  std::vector<char> block(256U << 10);
  for (std::size_t got = 0; got < bytes;) {
    const ssize_t size = recv(fd, block.data(), std::min(block.size(), bytes - got), 0);
    if (size <= 0) return false;
    got += static_cast<std::size_t>(size);
  }
  return true;
}

// Of a whole segment's frame, what TCP's data is.
double payload_share(int fd, bool v4) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
  const double headers = 14 + (v4 ? 20 : 40) + 32;
  return info.tcpi_snd_mss / (info.tcpi_snd_mss + headers);
}

}  // namespace

Result<double> tcp_rate(const PodNetns& from, const PodNetns& to, const Endpoint& at, std::size_t skipped,
                        std::size_t bytes) {
  SocketName name = socket_name(at.address, at.port);
  UniqueFd listener;
  UniqueFd client;
  int error = 0;
  to.run([&] {
    listener = open_socket(at, SO_RCVBUFFORCE);
    if (bind(listener.get(), name.get(), name.size) != 0 || listen(listener.get(), 1) != 0) error = errno;
  });
  if (error != 0) return fail_errno(error, "listen at " + to_string(at));
  from.run([&] {
    client = open_socket(at, SO_SNDBUFFORCE);
    if (connect(client.get(), name.get(), name.size) != 0) error = errno;
  });
  if (error != 0) return fail_errno(error, "connect " + to_string(at));
  const UniqueFd server(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  std::atomic<bool> over = false;
  std::jthread sender([&] {
    const std::vector<char> block(64U << 10);
    while (!over && send(client.get(), block.data(), block.size(), MSG_NOSIGNAL) > 0) {
    }
  });
  bool whole = take(server.get(), skipped);
  const auto begin = std::chrono::steady_clock::now();
  whole = whole && take(server.get(), bytes);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double share = payload_share(client.get(), at.address.is_v4());
  over = true;
  shutdown(client.get(), SHUT_RDWR);
  shutdown(server.get(), SHUT_RDWR);
  if (!whole) return fail(Code::kTimeout, "TCP to {} stands still", to_string(at));
  return static_cast<double>(bytes) * 8 / seconds / share;
}

}  // namespace fairlead::testkit
