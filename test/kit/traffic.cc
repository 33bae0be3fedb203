// SPDX-License-Identifier: Apache-2.0
#include "test/kit/traffic.h"

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <vector>

#include "agent/base/socket_name.h"

namespace fairlead::testkit {
namespace {

constexpr std::size_t kDatagram = 65536;
constexpr std::size_t kLine = 64;  // of who a client is: "ADDRESS PORT\n" and zeroes

// Of a client of a dual-stack socket: IPv4 comes mapped.
Endpoint endpoint_of(const SocketName& name) {
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(name.storage);
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    return {IpAddress::from_v4({bytes[12], bytes[13], bytes[14], bytes[15]}), ntohs(v6.sin6_port)};
  }
  return {IpAddress::from_v6(bytes), ntohs(v6.sin6_port)};
}

std::array<char, kLine> line_of(const Endpoint& client) {
  std::array<char, kLine> line{};
  const std::string text = fmt::format("{} {}\n", client.address, client.port);
  std::copy_n(text.data(), std::min(text.size(), line.size()), line.data());
  return line;
}

Result<Endpoint> read_line(const char* line) {
  const std::string text(line, strnlen(line, kLine));
  const std::size_t space = text.find(' ');
  if (space == std::string::npos) return fail(Code::kInvalid, "\"{}\" says no endpoint", text);
  FL_LET(const IpAddress address, IpAddress::parse(text.substr(0, space)));
  return Endpoint{address, static_cast<std::uint16_t>(std::stoul(text.substr(space + 1)))};
}

void be_patient(int fd, std::chrono::seconds patience) {
  const timeval limit{.tv_sec = patience.count(), .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

Result<UniqueFd> make_socket(Family family, int type, std::uint16_t port, std::chrono::seconds patience) {
  UniqueFd fd(socket(family == Family::kV4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno(errno, "socket");
  be_patient(fd.get(), patience);
  if (port == 0) return fd;
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  SocketName own = socket_name(family == Family::kV4 ? IpAddress::from_v4({}) : IpAddress::from_v6({}), port);
  if (bind(fd.get(), own.get(), own.size) != 0) return fail_errno(errno, fmt::format("bind port {}", port));
  return fd;
}

void serve(int listener, int datagrams, int wake) {
  std::vector<UniqueFd> streams;
  std::vector<char> buffer(kDatagram + kLine);
  while (true) {
    std::vector<pollfd> waits{{wake, POLLIN, 0}, {listener, POLLIN, 0}, {datagrams, POLLIN, 0}};
    for (const UniqueFd& stream : streams) waits.push_back({stream.get(), POLLIN, 0});
    if (poll(waits.data(), waits.size(), -1) <= 0 || waits[0].revents != 0) return;
    for (std::size_t i = streams.size(); i-- > 0;) {
      if (waits[3 + i].revents == 0) continue;
      const ssize_t size = recv(streams[i].get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      const bool open =
          size > 0 && send(streams[i].get(), buffer.data(), static_cast<std::size_t>(size), MSG_NOSIGNAL) == size;
      if (!open) streams.erase(streams.begin() + static_cast<std::ptrdiff_t>(i));
    }
    SocketName from;
    if (waits[1].revents != 0) {
      UniqueFd stream(accept4(listener, from.get(), &from.size, SOCK_CLOEXEC));
      if (!stream) continue;
      be_patient(stream.get(), std::chrono::seconds(10));
      const auto line = line_of(endpoint_of(from));
      if (send(stream.get(), line.data(), line.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(line.size())) {
        streams.push_back(std::move(stream));
      }
    }
    if (waits[2].revents != 0) {
      const ssize_t size = recvfrom(datagrams, buffer.data() + kLine, kDatagram, 0, from.get(), &from.size);
      if (size < 0) continue;
      const auto line = line_of(endpoint_of(from));
      std::copy(line.begin(), line.end(), buffer.begin());
      (void)!sendto(datagrams, buffer.data(), kLine + static_cast<std::size_t>(size), 0, from.get(), from.size);
    }
  }
}

std::string pattern(std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(i * 7 + i / 251);
  return text;
}

}  // namespace

Result<Observer> Observer::start(std::uint16_t port) {
  UniqueFd listener(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  UniqueFd datagrams(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  const int off = 0;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  SocketName any = socket_name(IpAddress::from_v6({}), port);
  for (const int fd : {listener.get(), datagrams.get()}) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, any.get(), any.size) != 0) return fail_errno(errno, fmt::format("observer on port {}", port));
  }
  if (listen(listener.get(), 256) != 0) return fail_errno(errno, "listen");
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno(errno, "socketpair");
  Observer observer;
  observer.wake_ = UniqueFd(ends[0]);
  observer.thread_ = std::thread([listener = std::move(listener), datagrams = std::move(datagrams),
                                  wake = UniqueFd(ends[1])] { serve(listener.get(), datagrams.get(), wake.get()); });
  return observer;
}

Observer::~Observer() {
  wake_.reset();
  if (thread_.joinable()) thread_.join();
}

Result<Stream> Stream::connect(const Endpoint& to, std::uint16_t source_port, std::chrono::seconds patience) {
  Stream stream;
  FL_LET(stream.fd_, make_socket(to.address.family(), SOCK_STREAM, source_port, patience));
  SocketName name = socket_name(to.address, to.port);
  if (::connect(stream.fd_.get(), name.get(), name.size) != 0) return fail_errno(errno, "connect " + to_string(to));
  std::array<char, kLine> line{};
  if (recv(stream.fd_.get(), line.data(), line.size(), MSG_WAITALL) != static_cast<ssize_t>(line.size())) {
    return fail_errno(errno == 0 ? EPIPE : errno, "be told by " + to_string(to));
  }
  FL_LET(stream.seen_, read_line(line.data()));
  return stream;
}

Result<> Stream::exchange(std::size_t bytes) {
  const std::string sent = pattern(bytes);
  std::string got(bytes, '\0');
  std::size_t out = 0;
  std::size_t in = 0;
  while (in < bytes) {
    // The server sends back as it reads: never more on the way than fits both buffers.
    const std::size_t piece = std::min<std::size_t>(bytes - out, 16U << 10);
    if (piece > 0 && out - in < (64U << 10)) {
      const ssize_t done = send(fd_.get(), sent.data() + out, piece, MSG_NOSIGNAL);
      if (done <= 0) return fail_errno(errno, "send");
      out += static_cast<std::size_t>(done);
      continue;
    }
    const ssize_t done = recv(fd_.get(), got.data() + in, bytes - in, 0);
    if (done <= 0) return fail_errno(done == 0 ? EPIPE : errno, "receive");
    in += static_cast<std::size_t>(done);
  }
  if (got != sent) return fail(Code::kInvalid, "{} bytes came back changed", bytes);
  return {};
}

Result<Endpoint> ask_datagram(const Endpoint& to, std::size_t bytes, int attempts) {
  const auto patience = std::chrono::seconds(attempts == 1 ? 20 : 2);
  FL_LET(const UniqueFd fd, make_socket(to.address.family(), SOCK_DGRAM, 0, patience));
  // Fragmented here and on the way, rather than refused.
  const int off = IP_PMTUDISC_DONT;
  setsockopt(fd.get(), IPPROTO_IP, IP_MTU_DISCOVER, &off, sizeof(off));
  setsockopt(fd.get(), IPPROTO_IPV6, IPV6_MTU_DISCOVER, &off, sizeof(off));
  SocketName name = socket_name(to.address, to.port);
  if (::connect(fd.get(), name.get(), name.size) != 0) return fail_errno(errno, "connect " + to_string(to));
  const std::string sent = pattern(bytes);
  std::vector<char> answer(kDatagram + kLine);
  int last = ETIMEDOUT;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    if (::send(fd.get(), sent.data(), sent.size(), 0) < 0) {
      last = errno;
      continue;
    }
    const ssize_t size = recv(fd.get(), answer.data(), answer.size(), 0);
    if (size < 0) {
      last = errno;
      continue;
    }
    if (static_cast<std::size_t>(size) != kLine + bytes ||
        std::memcmp(answer.data() + kLine, sent.data(), bytes) != 0) {
      return fail(Code::kInvalid, "{} bytes came back as {}", bytes, size);
    }
    return read_line(answer.data());
  }
  return fail_errno(last, "datagram to " + to_string(to));
}

Result<> ping(const IpAddress& to, std::size_t bytes) {
  const bool v4 = to.is_v4();
  UniqueFd fd(socket(v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, v4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6}));
  if (!fd) return fail_errno(errno, "socket");
  be_patient(fd.get(), std::chrono::seconds(1));
  SocketName name = socket_name(to, 0);
  if (::connect(fd.get(), name.get(), name.size) != 0) return fail_errno(errno, fmt::format("connect {}", to));
  static std::uint16_t sequence = 0;
  const auto id = static_cast<std::uint16_t>(fd.get() + 1000);
  std::string request(8, '\0');
  request[0] = static_cast<char>(v4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST);
  request[4] = static_cast<char>(id >> 8);
  request[5] = static_cast<char>(id);
  request += pattern(bytes);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (std::chrono::steady_clock::now() < until) {
    request[7] = static_cast<char>(++sequence);
    if (v4) {  // the kernel does it for ICMPv6 alone
      request[2] = request[3] = 0;
      std::uint32_t sum = 0;
      for (std::size_t i = 0; i < request.size(); ++i) {
        sum += static_cast<std::uint32_t>(static_cast<std::uint8_t>(request[i])) << (i % 2 == 0 ? 8 : 0);
      }
      while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
      request[2] = static_cast<char>(~sum >> 8);
      request[3] = static_cast<char>(~sum);
    }
    if (::send(fd.get(), request.data(), request.size(), 0) < 0) continue;
    std::vector<char> reply(kDatagram);
    while (true) {
      const ssize_t size = recv(fd.get(), reply.data(), reply.size(), 0);
      if (size < 0) break;
      const std::size_t header = v4 ? 20 : 0;
      const bool ours = static_cast<std::size_t>(size) == header + request.size() &&
                        reply[header] == static_cast<char>(v4 ? int{ICMP_ECHOREPLY} : int{ICMP6_ECHO_REPLY}) &&
                        std::memcmp(reply.data() + header + 4, request.data() + 4, request.size() - 4) == 0;
      if (ours) return {};
    }
  }
  return fail(Code::kTimeout, "no echo reply from {}", to);
}

Result<int> learn_mtu(const Endpoint& to, std::size_t bytes) {
  const bool v4 = to.address.is_v4();
  FL_LET(const UniqueFd fd, make_socket(to.address.family(), SOCK_DGRAM, 0, std::chrono::seconds(1)));
  const int on = v4 ? IP_PMTUDISC_DO : IPV6_PMTUDISC_DO;
  setsockopt(fd.get(), v4 ? int{IPPROTO_IP} : int{IPPROTO_IPV6}, v4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER, &on,
             sizeof(on));
  SocketName name = socket_name(to.address, to.port);
  if (::connect(fd.get(), name.get(), name.size) != 0) return fail_errno(errno, "connect " + to_string(to));
  const std::string sent = pattern(bytes);
  std::vector<char> answer(kDatagram + kLine);
  for (int attempt = 0; attempt < 10; ++attempt) {
    if (::send(fd.get(), sent.data(), sent.size(), 0) < 0 && errno == EMSGSIZE) break;
    (void)!recv(fd.get(), answer.data(), answer.size(), 0);  // the answer, or EMSGSIZE once the error is here
  }
  int mtu = 0;
  socklen_t size = sizeof(mtu);
  if (getsockopt(fd.get(), v4 ? int{IPPROTO_IP} : int{IPPROTO_IPV6}, v4 ? IP_MTU : IPV6_MTU, &mtu, &size) != 0) {
    return fail_errno(errno, "read the path's MTU");
  }
  return mtu;
}

Result<int> refused(const Endpoint& to) {
  FL_LET(const UniqueFd fd, make_socket(to.address.family(), SOCK_DGRAM, 0, std::chrono::seconds(1)));
  SocketName name = socket_name(to.address, to.port);
  if (::connect(fd.get(), name.get(), name.size) != 0) return fail_errno(errno, "connect " + to_string(to));
  char byte = 0;
  for (int attempt = 0; attempt < 10; ++attempt) {
    if (::send(fd.get(), "?", 1, 0) < 0) return errno;
    if (recv(fd.get(), &byte, 1, 0) < 0 && errno != EAGAIN) return errno;
  }
  return fail(Code::kTimeout, "no error came back from {}", to_string(to));
}

}  // namespace fairlead::testkit
