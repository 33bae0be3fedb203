// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/allocators.h"

#include <iterator>

namespace fairlead::datapath {

IdAllocator::IdAllocator(std::uint32_t capacity, std::span<const std::uint32_t> used)
    : taken_(capacity), free_(capacity == 0 ? 0 : capacity - 1 - static_cast<std::uint32_t>(used.size())) {
  for (const std::uint32_t id : used) taken_[id] = true;
  if (!used.empty()) next_ = used.back() + 1;
}

std::optional<std::uint32_t> IdAllocator::take() {
  const auto id = take_near(next_);
  if (id) next_ = *id + 1;
  return id;
}

std::optional<std::uint32_t> IdAllocator::take_near(std::uint32_t wanted) {
  if (free_ == 0) return std::nullopt;
  std::uint32_t id = wanted;
  while (id == 0 || id >= capacity() || taken_[id]) id = id + 1 < capacity() ? id + 1 : 1;
  taken_[id] = true;
  --free_;
  return id;
}

void IdAllocator::put(std::uint32_t id) {
  taken_[id] = false;
  ++free_;
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
