// SPDX-License-Identifier: Apache-2.0
#include "agent/network/ipam.h"

#include <algorithm>

namespace fairlead::network {
namespace {

constexpr std::uint64_t kFirst = 2;  // offset after the network and gateway addresses

}  // namespace

std::uint64_t Pool::end() const {
  return range_.size() - (range_.family() == Family::kV4 ? 1 : 0);
}

std::uint64_t Pool::capacity() const {
  return end() > kFirst ? end() - kFirst : 0;
}

void Pool::forget_rested(WallTime now) {
  std::erase_if(resting_, [&](const auto& entry) { return now - entry.second >= rest_; });
}

Result<> Pool::has_room(WallTime now) {
  forget_rested(now);
  if (taken_.size() + resting_.size() < capacity()) return {};
  return fail(Code::kExhausted, "no free pod address in {}: {} of {} in use, {} resting after release", range_,
              taken_.size(), capacity(), resting_.size());
}

Result<> Pool::allocate(const IpAddress& address, WallTime now) {
  forget_rested(now);
  const std::uint64_t offset = range_.offset_of(address);
  if (offset < kFirst || offset >= end()) return fail(Code::kInvalid, "{} is not handed out", address);
  if (resting_.contains(address)) return fail(Code::kExhausted, "{} rests after its release", address);
  return claim(address);
}

Result<IpAddress> Pool::allocate(WallTime now) {
  FL_TRY(has_room(now));
  std::uint64_t offset = range_.contains(cursor_) ? range_.offset_of(cursor_) : 0;
  while (true) {  // ends: fewer are taken than there are
    ++offset;
    if (offset < kFirst || offset >= end()) offset = kFirst;
    const IpAddress address = range_.at(offset);
    if (taken_.contains(address) || resting_.contains(address)) continue;
    taken_.insert(address);
    cursor_ = address;
    return address;
  }
}

Result<> Pool::claim(const IpAddress& address) {
  if (!taken_.insert(address).second) return fail(Code::kExists, "pod address {} is taken", address);
  resting_.erase(address);
  return {};
}

void Pool::release(const IpAddress& address, WallTime now) {
  if (taken_.erase(address) != 0) resting_[address] = now;
}

void Pool::restore(const std::map<IpAddress, WallTime>& resting, const IpAddress& cursor) {
  for (const auto& [address, since] : resting) {
    if (range_.contains(address) && !taken_.contains(address)) resting_[address] = since;
  }
  cursor_ = cursor;
}

Ipam::Ipam(const std::vector<Cidr>& ranges, Duration rest) {
  for (const Cidr& range : ranges) pools_.emplace_back(range, rest);
}

Result<> Ipam::has_room(WallTime now) {
  if (pools_.empty()) return fail(Code::kUnavailable, "the Node object names no pod ranges (spec.podCIDRs) yet");
  for (Pool& pool : pools_) FL_TRY(pool.has_room(now));
  return {};
}

Result<std::vector<IpAddress>> Ipam::allocate(WallTime now, const std::vector<IpAddress>& wanted) {
  FL_TRY(has_room(now));
  for (const IpAddress& address : wanted) {
    if (pool_of(address) == nullptr) return fail(Code::kInvalid, "{} is of no pod range of this node", address);
  }
  std::vector<IpAddress> addresses;
  for (Pool& pool : pools_) {
    const auto certain = std::ranges::find(wanted, pool.range().family(), &IpAddress::family);
    Result<IpAddress> address = IpAddress();
    if (certain == wanted.end()) {
      address = pool.allocate(now);
    } else if (auto taken = pool.allocate(*certain, now)) {
      address = *certain;
    } else {
      address = std::unexpected(std::move(taken).error());
    }
    if (!address) {
      release(addresses, now);
      return std::unexpected(std::move(address).error());
    }
    addresses.push_back(*address);
  }
  return addresses;
}

Result<> Ipam::claim(const std::vector<IpAddress>& addresses) {
  for (const IpAddress& address : addresses) {
    if (Pool* pool = pool_of(address)) FL_TRY(pool->claim(address));
  }
  return {};
}

void Ipam::release(const std::vector<IpAddress>& addresses, WallTime now) {
  for (const IpAddress& address : addresses) {
    if (Pool* pool = pool_of(address)) pool->release(address, now);
  }
}

Pool* Ipam::pool_of(const IpAddress& address) {
  const auto at = std::ranges::find_if(pools_, [&](const Pool& pool) { return pool.range().contains(address); });
  return at == pools_.end() ? nullptr : &*at;
}

}  // namespace fairlead::network
