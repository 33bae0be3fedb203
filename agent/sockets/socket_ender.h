// SPDX-License-Identifier: Apache-2.0
// SocketEnder: the domain that ends sockets whose backend is gone, so that their owners notice and connect anew.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include "agent/base/channel.h"
#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/datapath/load_balancer.h"
#include "agent/datapath/socket_memories.h"
#include "agent/model/rows.h"
#include "agent/netlink/sock_diag.h"
#include "agent/state/table.h"

namespace fairlead::sockets {

// A connected UDP socket would go on sending to where nobody listens, for ever: nothing tells it. So once a backend
// gets no new connections, the sockets that have it through that service are ended (ECONNABORTED), in every namespace
// that the data path serves; those of TCP, whose peer is sent a reset, once it drains no more. Sockets that named the
// same address themselves, or have it through a service that keeps it, are left alone.
//
// News only say when to look; which sockets are to be ended, their memories say, and the kernel, which socket has a
// memory's cookie. So nothing is lost with an agent that dies in between: its successor looks as soon as it knows the
// namespaces. Now and then all namespaces are looked at, for sockets that the kernel's lists missed, and for memories
// whose sockets are no more.
//
// Owner: Agent. Thread: its loop, which enters network namespaces for short; nothing that depends on its namespace
// may share it. Cost: one walk over the memories, then 0.1 ms a namespace that has dead ones; every five minutes 1 ms
// for each namespace. Counts: fairlead_sockets_ended_total{protocol}, fairlead_sockets_end_seconds,
// fairlead_sockets_end_failures_total, fairlead_sockets_remembered.
class SocketEnder {
 public:
  struct Deps {
    state::TableReader<model::ServedNetns> namespaces;
    Receiver<datapath::BackendsGone> gone;
    datapath::SocketMemories& memories;
    metrics::Registry& registry;
    Duration retry = std::chrono::seconds(1);  // after sockets could not be ended
    Duration sweep = std::chrono::minutes(5);
  };

  SocketEnder(Loop& loop, const Clock& clock, Deps deps);

 private:
  using DeadByCookie = std::map<std::uint64_t, datapath::ConnectedSocket>;
  // A memory as it was looked at: the same socket may be connected to another backend that dies.
  using Memory = std::tuple<std::uint64_t, std::uint32_t, std::uint32_t>;

  void namespaces_changed(const state::Delta<model::ServedNetns>& delta);
  // Ends those whose backend is gone, where that was not tried before.
  void end_dead();
  // The same where it was, and frees memories without a socket.
  void sweep();
  // The dead ones, by the low half of their namespace's cookie.
  Result<std::map<std::uint32_t, DeadByCookie>> find_dead();
  // Ends those of `dead` that are in the namespace at `path`, and adds the cookies of its connected sockets of the
  // protocols to `seen`. False: it cannot be looked into.
  bool look_in(const std::string& path, const std::set<std::uint8_t>& protocols, const DeadByCookie& dead,
               std::set<std::uint64_t>& seen);
  Result<> try_look_in(const std::string& path, const std::set<std::uint8_t>& protocols, const DeadByCookie& dead,
                       std::set<std::uint64_t>& seen);
  void tell_ended();
  void failed(const Error& error);

  Loop& loop_;
  const Clock& clock_;
  Deps deps_;
  prometheus::Counter& ended_udp_;
  prometheus::Counter& ended_tcp_;
  prometheus::Histogram& seconds_;
  prometheus::Gauge& remembered_;
  prometheus::Counter& failures_;
  std::map<std::uint64_t, std::string> paths_;  // of the namespaces, by cookie
  std::size_t ended_ = 0;                       // and not told yet
  std::set<Memory> tried_;                      // dead ones that were ended, or not found
  bool complete_ = false;                       // they are all known, and were looked at
  bool cannot_end_ = false;                     // and it was said
  Subscription retry_;
  Subscription sweep_;
};

}  // namespace fairlead::sockets
