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

namespace fairlead::sockets {
namespace {

constexpr const char* kModule = "sockets";
const std::set<std::uint8_t> kAll{IPPROTO_UDP, IPPROTO_TCP};  // those that the kernel can end from outside

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

std::uint64_t cookie_of(const netlink::KernelSocket& socket) {
  return socket.id.idiag_cookie[0] | std::uint64_t{socket.id.idiag_cookie[1]} << 32;
}

std::uint32_t low_half(std::uint64_t netns) {
  return static_cast<std::uint32_t>(netns);
}

prometheus::Counter& ended_counter(metrics::Registry& registry, Protocol protocol) {
  return metrics::counter(registry, "fairlead_sockets_ended_total",
                          "Connected sockets ended because their backend was gone.",
                          {{"protocol", std::string(to_string(protocol))}});
}

// A memory as it was looked at: the same socket may be connected to another backend that dies.
std::tuple<std::uint64_t, std::uint32_t, std::uint32_t> memory(const datapath::ConnectedSocket& socket) {
  return {socket.cookie, socket.backend_index, socket.generation};
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
      remembered_(metrics::gauge(deps_.registry, "fairlead_sockets_remembered",
                                 "Sockets connected through Services, as of the last look.")),
      failures_(metrics::counter(deps_.registry, "fairlead_sockets_end_failures_total",
                                 "Attempts to end sockets of gone backends that failed.")) {
  deps_.namespaces.attach(loop, [this](const state::Delta<model::ServedNetns>& delta) { namespaces_changed(delta); });
  deps_.gone.attach(loop, [this](const std::vector<datapath::BackendsGone>&) {
    if (complete_) end_dead();
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
  if (!delta.complete || std::exchange(complete_, true)) return;
  end_dead();
  sweep_ = loop_.every(deps_.sweep, [this] { sweep(); });
}

Result<std::map<std::uint32_t, SocketEnder::DeadByCookie>> SocketEnder::find_dead() {
  FL_LET(const auto look, deps_.memories.look());
  remembered_.Set(static_cast<double>(look.taken));
  std::map<std::uint32_t, DeadByCookie> dead;
  for (const datapath::ConnectedSocket& socket : look.dead) {
    if (kAll.contains(socket.protocol)) dead[socket.netns].emplace(socket.cookie, socket);
  }
  return dead;
}

void SocketEnder::tell_ended() {
  const auto ended = std::exchange(ended_, 0);
  if (ended != 0) log::info(kModule, "sockets ended: their backends are gone", {{"sockets", ended}});
}

void SocketEnder::end_dead() {
  const TimePoint begin = clock_.now();
  auto dead = find_dead();
  if (!dead) return failed(dead.error());
  std::set<Memory> tried;  // those of before that are dead still, and those of now
  for (auto& [netns, sockets] : *dead) {
    std::erase_if(sockets, [&](const auto& each) {
      const auto node = tried_.extract(memory(each.second));
      if (node) tried.insert(node.value());
      return !node.empty();
    });
  }
  for (const auto& [cookie, path] : paths_) {
    const auto in_there = dead->find(low_half(cookie));
    if (in_there == dead->end() || in_there->second.empty()) continue;
    std::set<std::uint8_t> protocols;
    for (const auto& [socket, memory] : in_there->second) protocols.insert(memory.protocol);
    std::set<std::uint64_t> seen;
    if (!look_in(path, protocols, in_there->second, seen)) continue;
    for (const auto& [socket, each] : in_there->second) tried.insert(memory(each));
  }
  tried_ = std::move(tried);
  seconds_.Observe(std::chrono::duration<double>(clock_.now() - begin).count());
  tell_ended();
}

void SocketEnder::sweep() {
  const auto dead = find_dead();
  if (!dead) return failed(dead.error());
  std::map<std::uint32_t, std::set<std::uint64_t>> seen;
  std::set<std::uint32_t> unknown;  // namespaces that could not be looked into
  for (const auto& [cookie, path] : paths_) {
    const std::uint32_t netns = low_half(cookie);
    const auto in_there = dead->find(netns);
    if (!look_in(path, kAll, in_there == dead->end() ? DeadByCookie() : in_there->second, seen[netns])) {
      unknown.insert(netns);
    }
  }
  tell_ended();
  const auto freed = deps_.memories.sweep([&](std::uint32_t netns, std::uint64_t cookie) {
    return unknown.contains(netns) || (seen.contains(netns) && seen.at(netns).contains(cookie));
  });
  if (!freed) return failed(freed.error());
  if (*freed != 0) log::info(kModule, "memories freed whose sockets are no more", {{"memories", *freed}});
}

bool SocketEnder::look_in(const std::string& path, const std::set<std::uint8_t>& protocols, const DeadByCookie& dead,
                          std::set<std::uint64_t>& seen) {
  const auto looked = try_look_in(path, protocols, dead, seen);
  // One that went meanwhile took its sockets with it.
  if (!looked && looked.error().code != Code::kNotFound) failed(looked.error());
  return looked.has_value();
}

Result<> SocketEnder::try_look_in(const std::string& path, const std::set<std::uint8_t>& protocols,
                                  const DeadByCookie& dead, std::set<std::uint64_t>& seen) {
  FL_LET(auto kernel, netlink::SockDiag::open_in(path));
  for (const std::uint8_t protocol : protocols) {
    std::vector<netlink::KernelSocket> found;
    for (const std::uint8_t family : {AF_INET, AF_INET6}) {
      FL_TRY(kernel.visit_connected(family, protocol, [&](const netlink::KernelSocket& socket) {
        const std::uint64_t cookie = cookie_of(socket);
        seen.insert(cookie);
        const auto memory = dead.find(cookie);
        // It may have been connected elsewhere since, or be disconnected.
        if (memory != dead.end() && memory->second.backend == peer_of(socket)) found.push_back(socket);
      }));
    }
    for (const netlink::KernelSocket& socket : found) {
      if (!deps_.memories.is_still(dead.at(cookie_of(socket)))) continue;
      FL_LET(const bool was_there, kernel.destroy(socket));
      if (!was_there) continue;
      (protocol == IPPROTO_UDP ? ended_udp_ : ended_tcp_).Increment();
      ++ended_;
    }
  }
  return {};
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
  retry_ = loop_.after(deps_.retry, [this] { end_dead(); });
}

}  // namespace fairlead::sockets
