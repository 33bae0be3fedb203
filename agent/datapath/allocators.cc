// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/allocators.h"

#include <iterator>

namespace fairlead::datapath {

IdAllocator::IdAllocator(std::uint32_t capacity, std::span<const std::uint32_t> used) : capacity_(capacity) {
  for (const std::uint32_t id : used) {
    while (next_ < id) free_.push_back(next_++);
    next_ = id + 1;
  }
}

std::optional<std::uint32_t> IdAllocator::take() {
  // Ids that were never taken come first: a freed one is used again as late as can be.
  if (next_ < capacity_) return next_++;
  if (free_.empty()) return std::nullopt;
  const std::uint32_t id = free_.front();
  free_.pop_front();
  return id;
}

RunAllocator::RunAllocator(std::uint32_t capacity) : capacity_(capacity) {
  if (capacity != 0) insert(0, capacity);
}

std::optional<std::uint32_t> RunAllocator::take(std::uint32_t count) {
  if (count == 0) return 0;
  const auto fit = by_count_.lower_bound({count, 0});
  if (fit == by_count_.end()) return std::nullopt;
  const auto [size, base] = *fit;
  erase(free_.find(base));
  if (size != count) insert(base + count, size - count);
  used_ += count;
  return base;
}

void RunAllocator::put(std::uint32_t base, std::uint32_t count) {
  if (count == 0) return;
  used_ -= count;
  auto after = free_.lower_bound(base);
  if (after != free_.end() && after->first == base + count) {
    count += after->second;
    erase(after);
    after = free_.lower_bound(base);
  }
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == base) {
      base = before->first;
      count += before->second;
      erase(before);
    }
  }
  insert(base, count);
}

bool RunAllocator::reserve(std::uint32_t base, std::uint32_t count) {
  if (count == 0) return true;
  auto run = free_.upper_bound(base);
  if (run == free_.begin()) return false;
  --run;
  const auto [start, size] = *run;
  if (base - start > size || size - (base - start) < count) return false;
  erase(run);
  if (base != start) insert(start, base - start);
  if (start + size != base + count) insert(base + count, start + size - base - count);
  used_ += count;
  return true;
}

void RunAllocator::insert(std::uint32_t base, std::uint32_t count) {
  free_[base] = count;
  by_count_.insert({count, base});
}

void RunAllocator::erase(ByBase::iterator run) {
  by_count_.erase({run->second, run->first});
  free_.erase(run);
}

}  // namespace fairlead::datapath
