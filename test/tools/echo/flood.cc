// SPDX-License-Identifier: Apache-2.0
// fl-echo flood: sends datagrams as fast as it can, from its first instruction on, and counts those that come to a port
// of its own; both are told in a line each 250 ms, and at the end.
#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "test/tools/echo/net.h"

namespace fairlead::echo {
namespace {

volatile std::sig_atomic_t ending = 0;

int datagram_socket(int family) {
  const int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fatal("socket");
  return fd;
}

int listening_socket(long port) {
  const int fd = datagram_socket(AF_INET6);
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_port = htons(static_cast<std::uint16_t>(port));
  if (bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any) != 0) fatal("bind");
  return fd;
}

}  // namespace

int flood(const Flags& flags) {
  if (flags.alone.size() != 1) usage("flood: want one URL");
  const Target target = Target::parse(flags.alone[0]);
  std::signal(SIGTERM, [](int) { ending = 1; });
  const int own = listening_socket(flags.number("listen", 0));
  const int out = datagram_socket(target.address.ss_family);
  const milliseconds duration = flags.duration("duration", milliseconds(0));
  const Time begin = Clock::now();
  Time told = begin;
  unsigned long sent = 0, received = 0;
  const auto tell = [&] {
    std::printf("sent %lu received %lu\n", sent, received);
    std::fflush(stdout);
  };
  while (ending == 0) {
    const auto* address = reinterpret_cast<const sockaddr*>(&target.address);
    if (sendto(out, "flood", 5, 0, address, target.length) == 5) ++sent;
    char buffer[16];
    while (recv(own, buffer, sizeof buffer, 0) >= 0) ++received;
    const Time now = Clock::now();
    if (duration.count() > 0 && now - begin >= duration) break;
    if (now - told < milliseconds(250)) continue;
    told = now;
    tell();
  }
  tell();
  return 0;
}

}  // namespace fairlead::echo
