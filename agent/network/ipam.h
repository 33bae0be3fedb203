// SPDX-License-Identifier: Apache-2.0
// Ipam: which addresses of the node's pod ranges are whose. Pure: it does no I/O and is told the time.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/ip.h"

namespace fairlead::network {

// One address range. Not handed out: the network address, the one after it (a gateway's by custom), and for IPv4 the
// broadcast address. Addresses are given out in turn, and a released one rests before it is used again: connections
// of its last owner, and caches of it, have ended by then.
// Cost: O(log used); a search over taken addresses where the range is nearly full.
class Pool {
 public:
  Pool(Cidr range, Duration rest) : range_(range), rest_(rest) {}

  const Cidr& range() const { return range_; }
  // kExhausted: all are in use, or rest; the text says how many.
  Result<> has_room(WallTime now);
  Result<IpAddress> allocate(WallTime now);
  // A certain one. kInvalid: it is not handed out; kExists: it is in use; kExhausted: it rests.
  Result<> allocate(const IpAddress& address, WallTime now);
  // Takes a certain address: one that a live pod has. kExists where it is taken.
  Result<> claim(const IpAddress& address);
  void release(const IpAddress& address, WallTime now);

  std::size_t used() const { return taken_.size(); }
  std::uint64_t capacity() const;

  // What a restart must know besides the live addresses.
  const std::map<IpAddress, WallTime>& resting() const { return resting_; }
  const IpAddress& cursor() const { return cursor_; }
  void restore(const std::map<IpAddress, WallTime>& resting, const IpAddress& cursor);

 private:
  std::uint64_t end() const;  // one past the last offset that is handed out
  void forget_rested(WallTime now);

  Cidr range_;
  Duration rest_;
  std::set<IpAddress> taken_;
  std::map<IpAddress, WallTime> resting_;  // released at
  IpAddress cursor_;                       // the last one handed out
};

// One pool a family. A pod gets one address of each, or none at all.
// Owner and thread: the network domain on its loop.
class Ipam {
 public:
  // `ranges`: at most one of a family; the first is the primary one. None: there is nothing to give out yet.
  Ipam(const std::vector<Cidr>& ranges, Duration rest);

  // kUnavailable: there are no ranges.
  Result<> has_room(WallTime now);
  // `wanted`: at most one of a family, each of a range of ours; the others are chosen.
  Result<std::vector<IpAddress>> allocate(WallTime now, const std::vector<IpAddress>& wanted = {});
  Result<> claim(const std::vector<IpAddress>& addresses);
  // Addresses outside the ranges (of an earlier configuration) are ignored.
  void release(const std::vector<IpAddress>& addresses, WallTime now);

  std::vector<Pool>& pools() { return pools_; }
  const std::vector<Pool>& pools() const { return pools_; }

 private:
  Pool* pool_of(const IpAddress& address);
  std::vector<Pool> pools_;
};

}  // namespace fairlead::network
