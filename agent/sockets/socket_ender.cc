// SPDX-License-Identifier: Apache-2.0
#include "agent/sockets/socket_ender.h"

#include <netinet/in.h>

#include <cstring>
#include <utility>

#include "agent/base/log.h"
#include "agent/netlink/sock_diag.h"

namespace fairlead::sockets {
namespace {

constexpr const char* kModule = "sockets";

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
  if (delta.complete && !std::exchange(complete_, true)) end_dead();
}

void SocketEnder::end_dead() {
  const TimePoint begin = clock_.now();
  const auto found = deps_.dead.list();
  if (!found) return failed(found.error());
  std::map<std::uint64_t, std::vector<dead_socket>> by_netns;
  for (const dead_socket& socket : *found) {
    // The kernel can end these from outside.
    if (socket.protocol == IPPROTO_UDP || socket.protocol == IPPROTO_TCP)
      by_netns[socket.netns_cookie].push_back(socket);
  }
  std::size_t ended = 0;
  for (const auto& [cookie, sockets] : by_netns) {
    const auto path = paths_.find(cookie);
    if (path == paths_.end()) continue;  // its pod is gone, and the sockets are about to be
    const auto in_one = end_in(path->second, sockets);
    if (in_one) {
      ended += *in_one;
    } else if (in_one.error().code != Code::kNotFound) {  // not: the namespace went, its sockets with it
      failed(in_one.error());
    }
  }
  seconds_.Observe(std::chrono::duration<double>(clock_.now() - begin).count());
  if (ended == 0) return;
  log::info(kModule, "sockets ended: their backends are gone", {{"sockets", ended}});
}

Result<std::size_t> SocketEnder::end_in(const std::string& path, std::span<const dead_socket> sockets) {
  FL_LET(netlink::SockDiag kernel, netlink::SockDiag::open_in(path));
  std::size_t ended = 0;
  for (const dead_socket& socket : sockets) {
    FL_LET(const bool was_there, kernel.destroy(kernel_socket(socket)));
    if (!was_there) continue;
    (socket.protocol == IPPROTO_UDP ? ended_udp_ : ended_tcp_).Increment();
    ++ended;
  }
  return ended;
}

void SocketEnder::failed(const Error& error) {
  failures_.Increment();
  log::warn(kModule, "sockets of gone backends are still there", {{"error", error}});
  retry_ = loop_.after(deps_.retry, [this] { end_dead(); });
}

}  // namespace fairlead::sockets
