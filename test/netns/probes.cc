// SPDX-License-Identifier: Apache-2.0
#include "test/netns/probes.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <string_view>

#include "agent/base/socket_name.h"
#include "test/kit/process.h"

namespace fairlead::testkit {
namespace {

using namespace std::chrono_literals;

UniqueFd datagram_socket(const PodNetns& where, int family) {
  UniqueFd fd;
  where.run([&] { fd = UniqueFd(socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); });
  return fd;
}

int family_of(const IpAddress& address) {
  return address.is_v4() ? AF_INET : AF_INET6;
}

}  // namespace

Result<Datagrams> Datagrams::make(const PodNetns& from, const Endpoint& to, Way way) {
  UniqueFd fd = datagram_socket(from, family_of(to.address));
  const SocketName name = socket_name(to.address, to.port);
  if (way == Way::kConnected && connect(fd.get(), name.get(), name.size) != 0) return fail_errno(errno, "connect");
  return Datagrams(std::move(fd), to, way);
}

bool Datagrams::answered(std::chrono::milliseconds patience) {
  const std::string text = std::to_string(++sent_) + " of mine";
  const SocketName name = socket_name(to_.address, to_.port);
  const ssize_t sent = way_ == Way::kConnected ? send(fd_.get(), text.data(), text.size(), 0)
                                               : sendto(fd_.get(), text.data(), text.size(), 0, name.get(), name.size);
  if (sent != static_cast<ssize_t>(text.size())) return false;
  const auto deadline = std::chrono::steady_clock::now() + patience;
  // Answers to earlier ones may come late.
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd wait{fd_.get(), POLLIN, 0};
    if (left <= 0ms || poll(&wait, 1, static_cast<int>(left.count())) <= 0) return false;
    char buffer[256];
    const ssize_t got = recv(fd_.get(), buffer, sizeof(buffer), 0);
    if (got >= 0 && std::string_view(buffer, static_cast<std::size_t>(got)).ends_with(text)) return true;
  }
}

Sink::Sink(const PodNetns& where, std::uint16_t port) : fd_(datagram_socket(where, AF_INET6)) {
  const SocketName any = socket_name(IpAddress::from_v6({}), port);
  const int off = 0;
  setsockopt(fd_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  if (bind(fd_.get(), any.get(), any.size) != 0) fd_.reset();
}

std::uint64_t Sink::count() {
  char buffer[16];
  while (recv(fd_.get(), buffer, sizeof(buffer), 0) >= 0) ++count_;
  return count_;
}

Flood::Flood(const PodNetns& from, const Endpoint& to) : fd_(datagram_socket(from, family_of(to.address))) {
  thread_ = std::jthread([this, to](const std::stop_token& stop) {
    const SocketName target = socket_name(to.address, to.port);
    while (!stop.stop_requested()) {
      if (sendto(fd_.get(), "probe", 5, 0, target.get(), target.size) == 5) ++sent_;
      std::this_thread::yield();
    }
  });
}

bool Flood::goes_on(std::uint64_t more) const {
  const std::uint64_t before = sent_;
  return eventually([&] { return sent_ >= before + more; });
}

}  // namespace fairlead::testkit
