// SPDX-License-Identifier: Apache-2.0
#include "agent/sockets/socket_ender.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/base/log.h"
#include "agent/sockets/socket_files.h"

namespace fairlead::sockets {
namespace {

constexpr const char* kModule = "sockets";
const std::set<Protocol> kAll{Protocol::kUdp, Protocol::kTcp};

netlink::KernelSocket kernel_socket(const dead_socket& socket) {
  netlink::KernelSocket out{.family = static_cast<std::uint8_t>(socket.family),
                            .protocol = static_cast<std::uint8_t>(socket.protocol)};
  out.id.idiag_sport = socket.source_port;
  out.id.idiag_dport = socket.peer_port;
  std::memcpy(out.id.idiag_src, socket.source.words, sizeof(out.id.idiag_src));
  std::memcpy(out.id.idiag_dst, socket.peer.words, sizeof(out.id.idiag_dst));
  out.id.idiag_if = socket.device;
  out.id.idiag_cookie[0] = static_cast<std::uint32_t>(socket.cookie);
  out.id.idiag_cookie[1] = static_cast<std::uint32_t>(socket.cookie >> 32);
  return out;
}

// Where it is connected to; IPv4 also where the socket names it v4-mapped.
SocketAddress peer_of(const netlink::KernelSocket& socket) {
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), socket.id.idiag_dst, bytes.size());
  const auto* mapped = reinterpret_cast<const in6_addr*>(bytes.data());
  const bool is_mapped = socket.family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(mapped);
  const std::size_t first = is_mapped ? 12 : 0;
  const IpAddress address =
      socket.family == AF_INET || is_mapped
          ? IpAddress::from_v4({bytes[first], bytes[first + 1], bytes[first + 2], bytes[first + 3]})
          : IpAddress::from_v6(bytes);
  return {address, ntohs(socket.id.idiag_dport)};
}

prometheus::Counter& ended_counter(metrics::Registry& registry, Protocol protocol) {
  return metrics::counter(registry, "fairlead_sockets_ended_total",
                          "Connected sockets ended because their backend was gone.",
                          {{"protocol", std::string(to_string(protocol))}});
}

}  // namespace

SocketEnder::SocketEnder(Loop& loop, const Clock& clock, Deps deps)
    : loop_(loop),
      clock_(clock),
      deps_(std::move(deps)),
      ended_udp_(ended_counter(deps_.registry, Protocol::kUdp)),
      ended_tcp_(ended_counter(deps_.registry, Protocol::kTcp)),
      seconds_(metrics::seconds_histogram(deps_.registry, "fairlead_sockets_end_seconds",
                                          "Time to find and end the sockets of backends that were gone.")),
      failures_(metrics::counter(deps_.registry, "fairlead_sockets_end_failures_total",
                                 "Attempts to end sockets of gone backends that failed.")) {
  deps_.namespaces.attach(loop, [this](const state::Delta<model::ServedNetns>& delta) { namespaces_changed(delta); });
  deps_.gone.attach(loop, [this](const std::vector<datapath::BackendsGone>& news) {
    std::set<Protocol> protocols;
    for (const datapath::BackendsGone& gone : news) protocols.insert(gone.protocol);
    if (complete_) end_dead(protocols);
  });
}

void SocketEnder::namespaces_changed(const state::Delta<model::ServedNetns>& delta) {
  for (const auto& change : delta.changes) {
    if (change.before) paths_.erase(change.before->cookie);
  }
  for (const auto& change : delta.changes) {
    if (change.after && !change.after->path.empty()) paths_[change.after->cookie] = change.after->path;
  }
  // An earlier agent may have died between a backend and its sockets.
  if (delta.complete && !std::exchange(complete_, true)) end_dead(kAll);
}

void SocketEnder::end_dead(const std::set<Protocol>& protocols) {
  const TimePoint begin = clock_.now();
  const std::size_t ended = deps_.dead.can_list() ? end_listed() : end_asked(protocols);
  seconds_.Observe(std::chrono::duration<double>(clock_.now() - begin).count());
  if (ended == 0) return;
  log::info(kModule, "sockets ended: their backends are gone", {{"sockets", ended}});
}

// Those of all namespaces, told at once.
std::size_t SocketEnder::end_listed() {
  const auto found = deps_.dead.list();
  if (!found) return failed(found.error()), 0;
  std::map<std::uint64_t, std::vector<netlink::KernelSocket>> by_netns;
  for (const dead_socket& socket : *found) {
    // The kernel can end these from outside.
    if (socket.protocol == IPPROTO_UDP || socket.protocol == IPPROTO_TCP) {
      by_netns[socket.netns_cookie].push_back(kernel_socket(socket));
    }
  }
  std::size_t ended = 0;
  for (const auto& [cookie, sockets] : by_netns) {
    const auto path = paths_.find(cookie);
    if (path == paths_.end()) continue;  // its pod is gone, and the sockets are about to be
    auto kernel = netlink::SockDiag::open_in(path->second);
    ended += take(kernel ? end_all(*kernel, sockets) : std::unexpected(kernel.error()));
  }
  return ended;
}

// Asks namespace by namespace who is connected to where a backend was; for UDP in all of them first, which nothing else
// would ever tell.
std::size_t SocketEnder::end_asked(const std::set<Protocol>& protocols) {
  const std::set<SocketAddress> retired = deps_.dead.retired();
  if (retired.empty()) return 0;
  std::map<std::uint64_t, netlink::SockDiag> kernels;
  for (const auto& [cookie, path] : paths_) {
    auto kernel = netlink::SockDiag::open_in(path);
    if (kernel) {
      kernels.emplace(cookie, std::move(*kernel));
    } else {
      take(std::unexpected(kernel.error()));
    }
  }
  std::size_t ended = 0;
  for (const std::uint8_t protocol : {IPPROTO_UDP, IPPROTO_TCP}) {
    if (!protocols.contains(static_cast<Protocol>(protocol))) continue;
    std::map<std::uint64_t, Suspect> unread;  // by inode
    for (auto& [cookie, kernel] : kernels) ended += take(end_asked_in(kernel, protocol, retired, unread));
    if (unread.empty()) continue;
    std::set<std::uint64_t> inodes;
    for (const auto& [inode, suspect] : unread) inodes.insert(inode);
    visit_sockets(std::move(inodes), [&](std::uint64_t inode, int fd) {
      const Suspect& suspect = unread.at(inode);
      if (!deps_.dead.is_dead(protocol, suspect.peer, deps_.dead.memory_of(fd))) return;
      ended += take(end_all(*suspect.kernel, {&suspect.socket, 1}));
    });
  }
  return ended;
}

// Ends those of one namespace whose memory the kernel tells; notes the others.
Result<std::size_t> SocketEnder::end_asked_in(netlink::SockDiag& kernel, std::uint8_t protocol,
                                              const std::set<SocketAddress>& retired,
                                              std::map<std::uint64_t, Suspect>& unread) {
  std::vector<netlink::KernelSocket> dead;
  for (const std::uint8_t family : {AF_INET, AF_INET6}) {
    FL_TRY(kernel.visit_connected(family, protocol, deps_.dead.memory_fd(), [&](const auto& found) {
      const SocketAddress peer = peer_of(found.socket);
      if (!retired.contains(peer)) return;
      if (found.memory.empty()) {
        unread[found.inode] = {&kernel, found.socket, peer};
      } else if (deps_.dead.is_dead(protocol, peer, found.memory)) {
        dead.push_back(found.socket);
      }
    }));
  }
  return end_all(kernel, dead);
}

Result<std::size_t> SocketEnder::end_all(netlink::SockDiag& kernel, std::span<const netlink::KernelSocket> sockets) {
  std::size_t ended = 0;
  for (const netlink::KernelSocket& socket : sockets) {
    FL_LET(const bool was_there, kernel.destroy(socket));
    if (!was_there) continue;
    (socket.protocol == IPPROTO_UDP ? ended_udp_ : ended_tcp_).Increment();
    ++ended;
  }
  return ended;
}

// How many ended in one namespace. One that went meanwhile took its sockets with it.
std::size_t SocketEnder::take(const Result<std::size_t>& in_one) {
  if (in_one) return *in_one;
  if (in_one.error().code != Code::kNotFound) failed(in_one.error());
  return 0;
}

void SocketEnder::failed(const Error& error) {
  failures_.Increment();
  if (error.sys == EOPNOTSUPP) {  // that will not change: said once
    if (!std::exchange(cannot_end_, true)) {
      log::error(kModule,
                 "this kernel ends no sockets from outside: those of gone backends stay until their owners "
                 "close them; CONFIG_INET_DIAG_DESTROY is what it lacks",
                 {{"error", error}});
    }
    return;
  }
  log::warn(kModule, "sockets of gone backends are still there", {{"error", error}});
  retry_ = loop_.after(deps_.retry, [this] { end_dead(kAll); });
}

}  // namespace fairlead::sockets
