// SPDX-License-Identifier: Apache-2.0
// Allocators of array elements: single ids, and contiguous runs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "bpf/abi/service.h"

namespace fairlead::datapath {

// Ids 1 … capacity - 1 (0 is nobody's). Owner: one, one thread. O(1) while there is room, O(capacity) at worst.
class IdAllocator {
 public:
  // `used`: ids that are taken, below `capacity`.
  IdAllocator(std::uint32_t capacity, std::span<const std::uint32_t> used);

  // The next one, round after round: what was freed is used again as late as can be.
  std::optional<std::uint32_t> take();
  // The first that is free from `wanted` on, and from 1 on after the last.
  std::optional<std::uint32_t> take_near(std::uint32_t wanted);
  void put(std::uint32_t id);
  std::uint32_t capacity() const { return static_cast<std::uint32_t>(taken_.size()); }

 private:
  std::vector<bool> taken_;
  std::uint32_t free_;  // how many
  std::uint32_t next_ = 1;
};

// Contiguous runs of [0, capacity), best fit; freed neighbours join. Owner: one, one thread. O(log free runs).
class RunAllocator {
 public:
  explicit RunAllocator(std::uint32_t capacity);

  // The base of `count` elements in a row; count 0 takes nothing and gives 0.
  std::optional<std::uint32_t> take(std::uint32_t count);
  void put(std::uint32_t base, std::uint32_t count);
  // Takes exactly this run; false where a part of it is taken.
  bool reserve(std::uint32_t base, std::uint32_t count);
  std::uint32_t used() const { return used_; }
  std::uint32_t capacity() const { return capacity_; }

 private:
  using ByBase = std::map<std::uint32_t, std::uint32_t>;  // base → count
  void insert(std::uint32_t base, std::uint32_t count);
  void erase(ByBase::iterator run);

  std::uint32_t capacity_;
  std::uint32_t used_ = 0;
  ByBase free_;
  std::set<std::pair<std::uint32_t, std::uint32_t>> by_count_;  // {count, base}
};

// Whether a run at `base` stands in its service's own element: no RunAllocator gave it.
constexpr bool is_own_run(std::uint32_t base) {
  return (base & SERVICE_OWN_RUN) != 0;
}

}  // namespace fairlead::datapath
