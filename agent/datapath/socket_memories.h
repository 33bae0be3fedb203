// SPDX-License-Identifier: Apache-2.0
// SocketMemories: what the connected sockets of this node remember of their Services' backends.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/datapath/map.h"
#include "agent/datapath/service_maps.h"
#include "agent/datapath/sock_programs.h"
#include "bpf/abi/socket_memory.h"

namespace fairlead::datapath {

// A socket that is connected through a Service.
struct ConnectedSocket {
  std::uint32_t index = 0;  // of its memory
  std::uint64_t cookie = 0;
  std::uint32_t netns = 0;    // the low half of its network namespace's cookie
  std::uint8_t protocol = 0;  // IPPROTO_*
  SocketAddress backend;
  std::uint32_t backend_index = 0;
  std::uint32_t generation = 0;
};

// The sockets' hooks keep these memories (bpf/abi/socket_memory.h) and give them back as sockets close; who knows the
// sockets tells sweep() which of them are there, for those whose close no hook saw (the kernel's own sockets, one that
// closed while no hooks were attached). Owner: main; thread: one, any. Cost of each walk over all memories: 2 ms, which
// map 16 MB, 1 MB at a time.
class SocketMemories {
 public:
  static Result<std::unique_ptr<SocketMemories>> open(const SockPrograms& programs);

  struct Look {
    std::uint64_t taken = 0;  // memories
    // Those whose backend is gone; of UDP also where it only drains, since UDP has no end that would be waited for.
    std::vector<ConnectedSocket> dead;
  };
  Result<Look> look() const;
  // Whether one of those remembers the same backend still.
  bool is_still(const ConnectedSocket& socket) const;

  // Frees the memories of sockets that are no more: of those for which `is_there(netns, cookie)` was false in two
  // sweeps, as the third one begins: what a hook that still ran may have done with one is done by then. Returns how
  // many. To be called minutes apart.
  Result<std::size_t> sweep(const std::function<bool(std::uint32_t, std::uint64_t)>& is_there);

 private:
  SocketMemories(ServiceMaps maps, Map<std::uint32_t, socket_memory> memories)
      : maps_(std::move(maps)), memories_(std::move(memories)) {}
  bool is_dead(const socket_memory& memory) const;
  // Of a lost one.
  Result<> free(std::uint32_t index);
  // Calls `visit(index, memory)` for each that is taken. What `visit` gets is the kernel's own.
  Result<> visit(const std::function<void(std::uint32_t, socket_memory&)>& visit) const;

  ServiceMaps maps_;
  Map<std::uint32_t, socket_memory> memories_;
  std::set<std::uint64_t> missed_;  // the cookies that the last sweep did not find
};

}  // namespace fairlead::datapath
