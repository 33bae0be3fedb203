// SPDX-License-Identifier: Apache-2.0
#include "test/kit/echo.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace fairlead::testkit {
namespace {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

// For a socket of `family`; IPv4 in an IPv6 socket is v4-mapped.
SocketAddress to_socket(Family family, const Endpoint& endpoint) {
  SocketAddress out;
  const auto bytes = endpoint.address.bytes();
  if (family == Family::kV4) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(endpoint.port);
    std::memcpy(&v4->sin_addr, bytes.data(), bytes.size());
    out.size = sizeof(*v4);
    return out;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(endpoint.port);
  std::uint8_t* to = v6->sin6_addr.s6_addr;
  if (endpoint.address.is_v4()) {
    to[10] = to[11] = 0xff;
    to += 12;
  }
  std::ranges::copy(bytes, to);
  out.size = sizeof(*v6);
  return out;
}

Endpoint from_socket(const SocketAddress& address) {
  if (address.storage.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address.storage);
    std::array<std::uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &v4->sin_addr, bytes.size());
    return {IpAddress::from_v4(bytes), ntohs(v4->sin_port)};
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address.storage);
  const std::uint8_t* from = v6->sin6_addr.s6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
    return {IpAddress::from_v4({from[12], from[13], from[14], from[15]}), ntohs(v6->sin6_port)};
  }
  std::array<std::uint8_t, 16> bytes{};
  std::copy_n(from, bytes.size(), bytes.begin());
  return {IpAddress::from_v6(bytes), ntohs(v6->sin6_port)};
}

int domain(Family family) {
  return family == Family::kV4 ? AF_INET : AF_INET6;
}

void serve(int listener, int datagrams, int wake, const std::string& name) {
  std::array<pollfd, 3> waits{{{listener, POLLIN, 0}, {datagrams, POLLIN, 0}, {wake, POLLIN, 0}}};
  while (poll(waits.data(), waits.size(), -1) > 0 && waits[2].revents == 0) {
    if (waits[0].revents != 0) {
      const UniqueFd accepted(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
      if (accepted) (void)!::send(accepted.get(), name.data(), name.size(), MSG_NOSIGNAL);
    }
    if (waits[1].revents != 0) {
      SocketAddress from;
      char request[16];
      if (recvfrom(datagrams, request, sizeof(request), 0, from.get(), &from.size) >= 0) {
        (void)!sendto(datagrams, name.data(), name.size(), 0, from.get(), from.size);
      }
    }
  }
}

}  // namespace

std::string to_string(const Endpoint& endpoint) {
  return fmt::format("[{}]:{}", endpoint.address, endpoint.port);
}

Result<EchoServer> EchoServer::start(const IpAddress& address, const std::string& name) {
  // The kernel chooses the TCP port; another socket may hold it for UDP.
  for (int attempt = 0; attempt < 100; ++attempt) {
    UniqueFd listener(socket(domain(address.family()), SOCK_STREAM | SOCK_CLOEXEC, 0));
    UniqueFd datagrams(socket(domain(address.family()), SOCK_DGRAM | SOCK_CLOEXEC, 0));
    SocketAddress bound = to_socket(address.family(), {address, 0});
    if (bind(listener.get(), bound.get(), bound.size) != 0 || listen(listener.get(), 4096) != 0 ||
        getsockname(listener.get(), bound.get(), &bound.size) != 0) {
      return fail_errno(errno, fmt::format("echo server at {}", address));
    }
    if (bind(datagrams.get(), bound.get(), bound.size) != 0) continue;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno(errno, "socketpair");
    EchoServer server;
    server.endpoint_ = from_socket(bound);
    server.wake_ = UniqueFd(ends[0]);
    server.thread_ =
        std::thread([listener = std::move(listener), datagrams = std::move(datagrams), wake = UniqueFd(ends[1]), name] {
          serve(listener.get(), datagrams.get(), wake.get(), name);
        });
    return server;
  }
  return fail(Code::kExhausted, "echo server at {}: no port is free for TCP and UDP", address);
}

EchoServer::~EchoServer() {
  wake_.reset();
  if (thread_.joinable()) thread_.join();
}

Result<Client> Client::make(Family family, Protocol protocol) {
  UniqueFd fd(socket(domain(family), (protocol == Protocol::kTcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno(errno, "socket");
  const timeval limit{.tv_sec = 5, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  return Client(std::move(fd), family);
}

Result<> Client::connect(const Endpoint& to) {
  SocketAddress address = to_socket(family_, to);
  if (::connect(fd_.get(), address.get(), address.size) != 0) return fail_errno(errno, "connect " + to_string(to));
  return {};
}

Result<> Client::send() {
  if (::send(fd_.get(), "?", 1, MSG_NOSIGNAL) != 1) return fail_errno(errno, "send");
  return {};
}

Result<> Client::send_to(const Endpoint& to) {
  SocketAddress address = to_socket(family_, to);
  if (sendto(fd_.get(), "?", 1, 0, address.get(), address.size) != 1)
    return fail_errno(errno, "sendto " + to_string(to));
  return {};
}

Result<std::pair<std::string, Endpoint>> Client::receive() {
  SocketAddress from;
  char text[256];
  const ssize_t size = recvfrom(fd_.get(), text, sizeof(text), 0, from.get(), &from.size);
  if (size < 0) return fail_errno(errno, "recvfrom");
  return std::pair{std::string(text, static_cast<std::size_t>(size)), from.size == 0 ? Endpoint{} : from_socket(from)};
}

Result<Endpoint> Client::peer() const {
  SocketAddress address;
  if (getpeername(fd_.get(), address.get(), &address.size) != 0) return fail_errno(errno, "getpeername");
  return from_socket(address);
}

Result<std::string> ask(Family family, Protocol protocol, const Endpoint& to) {
  FL_LET(Client client, Client::make(family, protocol));
  FL_TRY(client.connect(to));
  if (protocol == Protocol::kUdp) FL_TRY(client.send());
  FL_LET(const auto answer, client.receive());
  return answer.first;
}

}  // namespace fairlead::testkit
