// SPDX-License-Identifier: Apache-2.0
// LoadBalancer: Services in the BPF maps, as transactions. A service entry is published by one store, so no connection
// and no packet ever sees half a backend set.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "agent/base/balancing.h"
#include "agent/base/ip.h"
#include "agent/base/result.h"

namespace fairlead::datapath {

// Where clients connect to. Port in host order.
struct Frontend {
  IpAddress address;
  std::uint16_t port = 0;
  Protocol protocol = Protocol::kTcp;
  auto operator<=>(const Frontend&) const = default;
};

// Where a connection goes. Its protocol is its service's. Port in host order.
struct Backend {
  IpAddress address;
  std::uint16_t port = 0;
  auto operator<=>(const Backend&) const = default;
};

// One Service port of one family: every frontend leads to the same backends. No backends: connects are refused.
struct ServiceEntry {
  std::vector<Frontend> frontends;       // same family and protocol
  std::vector<Backend> backends;         // same family; sorted, no duplicates
  std::uint32_t affinity_timeout_s = 0;  // 0: none; else ClientIP affinity
  Balancing balancing = Balancing::kRandom;
  std::vector<std::uint32_t> weights = {};  // one a backend, 1 … kMaxWeight; empty: all alike
  // Get no new connections, but keep those of TCP and SCTP that they have. Same family; none of `backends`.
  std::vector<Backend> draining = {};
  // Its addresses are the node's: what goes to other ports there is none of ours. Else all of an address is Services'.
  bool shares_addresses = false;
  bool operator==(const ServiceEntry&) const = default;
};

// How much an entry is used, since its backends have been in the maps.
struct ServiceUse {
  struct OfBackend {
    Backend backend;
    std::uint64_t hits = 0;  // connections that chose it
    std::uint32_t open = 0;  // connections to it now, as far as their end is seen
    bool operator==(const OfBackend&) const = default;
  };
  std::uint64_t hits = 0;  // of the entry, gone backends included
  std::vector<OfBackend> backends;
};

// News that backends left a service of the protocol: no new connection finds them any more. Which, the maps say, and
// whose connections they were, the sockets themselves; so all such news of a protocol are one.
struct BackendsGone {
  Protocol protocol{};
  using Key = Protocol;
  Key key() const { return protocol; }
};

// Fill of one map, for status and metrics.
struct MapUsage {
  std::string map;
  std::uint64_t used = 0;
  std::uint64_t capacity = 0;
};

// Thread: the services domain's loop. Implemented over pinned maps by BpfLoadBalancer; a fake serves unit tests.
class LoadBalancer {
 public:
  virtual ~LoadBalancer() = default;

  // Makes the maps say `entry` under `name` ("namespace/service:port/TCP/4"). On success every later connect and packet
  // sees the new set whole; on failure the old set stays whole and the error names the map. Writes nothing where the
  // maps are right already: after a restart, entries found in the pinned maps are adopted by their frontends.
  virtual Result<> apply(const std::string& name, const ServiceEntry& entry) = 0;
  // Takes the entry's frontends out. Removing what is not there succeeds.
  virtual Result<> remove(const std::string& name) = 0;
  // Ends start-up: entries found in the pinned maps and not applied since are removed. Call once all lists are
  // complete.
  virtual Result<> remove_unclaimed() = 0;
  virtual std::vector<MapUsage> usage() const = 0;
  // What the programs counted for `name`; zeros where there is no such entry.
  virtual ServiceUse use(const std::string& name) const = 0;
  // Compares the maps with what was applied; the names that differ (someone else wrote the maps).
  virtual Result<std::set<std::string>> audit() = 0;
};

// Which network namespaces the socket hooks serve, and who a client in them is (for ClientIP affinity): agents on one
// kernel share a cgroup tree, and each acts only for its own namespaces. Thread: the network domain's loop.
class SocketClients {
 public:
  virtual ~SocketClients() = default;
  // `netns_cookie` as SO_NETNS_COOKIE tells it; `addresses`: at most one of a family.
  virtual Result<> admit(std::uint64_t netns_cookie, const std::vector<IpAddress>& addresses) = 0;
  virtual Result<> dismiss(std::uint64_t netns_cookie) = 0;
  // All that are admitted now; after a restart, those found in the pinned map.
  virtual Result<std::vector<std::uint64_t>> admitted() = 0;
};

}  // namespace fairlead::datapath
