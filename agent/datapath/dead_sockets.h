// SPDX-License-Identifier: Apache-2.0
// DeadSockets: which connected sockets of this node have a backend that is gone.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/datapath/object.h"
#include "agent/datapath/service_maps.h"
#include "agent/datapath/sock_programs.h"
#include "bpf/abi/dead_socket.h"

namespace fairlead::datapath {

// The socket hooks keep a connected socket's translation in the socket itself (map sk_peer), so there is no list of
// sockets that could fill up, fall behind or outlive them. Where the kernel lets us, a BPF iterator walks those
// memories, of all network namespaces in one go, and compares each with the backend that it names (since 6.1; some
// machines' owners forbid it). Elsewhere who knows the namespaces looks for sockets that are connected to where a
// backend was, and asks here what those remember. Owner: main; thread: one, any. Cost of a list: 0.1 µs a socket that
// is connected through a service.
class DeadSockets {
 public:
  static Result<std::unique_ptr<DeadSockets>> open(const SockPrograms& programs);
  ~DeadSockets();

  // Whether list() may be called: there is an iterator.
  bool can_list() const { return iterator_ != nullptr; }
  Result<std::vector<dead_socket>> list() const;

  // Where there are, or were, backends that get no new connections: a dead socket is connected to one of these. 1 ms.
  std::set<SocketAddress> retired() const;
  // The map of memories; the descriptor stays this object's.
  int memory_fd() const { return memory_fd_; }
  // What a socket remembers, by a descriptor of it; empty: nothing.
  std::vector<std::uint8_t> memory_of(int socket) const;
  // Whether a socket of `protocol` (IPPROTO_*) that is connected to `peer` and remembers `memory` has a backend that is
  // gone.
  bool is_dead(std::uint8_t protocol, const SocketAddress& peer, std::span<const std::uint8_t> memory) const;

  // Of the iterator; none where there is none.
  Result<std::vector<ProgramFacts>> facts() const;

 private:
  struct Iterator;
  DeadSockets(std::unique_ptr<Iterator> iterator, ServiceMaps maps, int memory_fd);
  static Result<std::unique_ptr<Iterator>> open_iterator(const SockPrograms& programs);
  std::unique_ptr<Iterator> iterator_;
  ServiceMaps maps_;
  int memory_fd_;
};

}  // namespace fairlead::datapath
