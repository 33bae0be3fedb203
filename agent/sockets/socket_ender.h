// SPDX-License-Identifier: Apache-2.0
// SocketEnder: the domain that ends sockets whose backend is gone, so that their owners notice and connect anew.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "agent/base/channel.h"
#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/datapath/dead_sockets.h"
#include "agent/datapath/load_balancer.h"
#include "agent/model/rows.h"
#include "agent/netlink/sock_diag.h"
#include "agent/state/table.h"

namespace fairlead::sockets {

// A connected UDP socket would go on sending to where nobody listens, for ever: nothing tells it. So once a backend
// gets no new connections, the sockets that have it through that service are ended (ECONNABORTED), in every namespace
// that the data path serves; those of TCP, whose peer is sent a reset, once it drains no more. Sockets that named the
// same address themselves, or have it through a service that keeps it, are left alone.
//
// News only say when to look; which sockets are to be ended, the maps and the sockets say. So nothing is lost with an
// agent that dies in between: its successor looks as soon as it knows the namespaces.
//
// Owner: Agent. Thread: its loop, which enters network namespaces for short; nothing that depends on its namespace
// may share it. Cost: one walk over all connected sockets of services, then 0.1 ms a namespace that has dead ones;
// where the kernel gives no such walk, a walk over the machine's sockets for each namespace. Counts:
// fairlead_sockets_ended_total{protocol}, fairlead_sockets_end_seconds, fairlead_sockets_end_failures_total.
class SocketEnder {
 public:
  struct Deps {
    state::TableReader<model::ServedNetns> namespaces;
    Receiver<datapath::BackendsGone> gone;
    const datapath::DeadSockets& dead;
    metrics::Registry& registry;
    Duration retry = std::chrono::seconds(1);  // after sockets could not be ended
  };

  SocketEnder(Loop& loop, const Clock& clock, Deps deps);

 private:
  void namespaces_changed(const state::Delta<model::ServedNetns>& delta);
  // Where it has to ask, of these protocols.
  void end_dead(const std::set<Protocol>& protocols);
  // How many ended.
  std::size_t end_listed();
  std::size_t end_asked(const std::set<Protocol>& protocols);
  // A socket that is connected to where a backend was, and what it remembers is still to be read.
  struct Suspect {
    netlink::SockDiag* kernel = nullptr;
    netlink::KernelSocket socket;
    SocketAddress peer;
  };
  Result<std::size_t> end_asked_in(netlink::SockDiag& kernel, std::uint8_t protocol,
                                   const std::set<SocketAddress>& retired, std::map<std::uint64_t, Suspect>& unread);
  Result<std::size_t> end_all(netlink::SockDiag& kernel, std::span<const netlink::KernelSocket> sockets);
  std::size_t take(const Result<std::size_t>& in_one);
  void failed(const Error& error);

  Loop& loop_;
  const Clock& clock_;
  Deps deps_;
  prometheus::Counter& ended_udp_;
  prometheus::Counter& ended_tcp_;
  prometheus::Histogram& seconds_;
  prometheus::Counter& failures_;
  std::map<std::uint64_t, std::string> paths_;  // of the namespaces, by cookie
  bool complete_ = false;                       // they are all known, and were looked at
  bool cannot_end_ = false;                     // and it was said
  Subscription retry_;
};

}  // namespace fairlead::sockets
