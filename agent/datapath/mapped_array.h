// SPDX-License-Identifier: Apache-2.0
// MappedArray<T>: a BPF array map seen as memory, so that one field is written by one store.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace fairlead::datapath {

// Owner: one. Threads: one; BPF programs read at the same time, so what they may see is written by store().
// Elements are those of a BPF_F_MMAPABLE array, whose stride is the value's size rounded up to 8 bytes. The kernel
// counts every page that is mapped as the process's, used or not: so a window of the array is mapped once one of its
// elements is asked for, and std::bad_alloc is thrown where it cannot be. Cost: a window is one system call, after that
// an element is a bit test.
template <class T>
class MappedArray {
  static_assert(sizeof(T) % 8 == 0);

 public:
  // `size`: all elements of the map behind `fd`, which stays the caller's.
  static Result<MappedArray> open(int fd, std::uint32_t size, const std::string& name) {
    UniqueFd own(fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!own) return fail_errno(errno, fmt::format("map {}: dup", name));
    const std::size_t windows = (sizeof(T) * size + kWindow - 1) / kWindow;
    void* place = reserve(nullptr, windows * kWindow, 0);
    if (place == MAP_FAILED) return fail_errno(errno, fmt::format("map {}: mmap", name));
    MappedArray array(std::move(own), static_cast<std::byte*>(place), size, windows);
    if (size != 0 && !array.map(0)) return fail_errno(errno, fmt::format("map {}: mmap", name));
    return array;
  }
  MappedArray(MappedArray&& other) noexcept
      : fd_(std::move(other.fd_)),
        place_(std::exchange(other.place_, nullptr)),
        size_(other.size_),
        mapped_(std::move(other.mapped_)),
        windows_(other.windows_) {}
  MappedArray& operator=(MappedArray&&) = delete;
  ~MappedArray() {
    if (place_ != nullptr) munmap(place_, mapped_.size() * kWindow);
  }

  std::uint32_t size() const { return size_; }
  const T& operator[](std::uint32_t index) const { return *reach(index, 1); }
  T& operator[](std::uint32_t index) { return *reach(index, 1); }
  // Gives all windows back where more than `kMuch` bytes are mapped; what refers to an element is invalid then.
  void unmap_much() {
    if (windows_ * kWindow > kMuch) unmap(0, mapped_.size(), std::vector<bool>(mapped_.size()));
  }
  // Calls `visit(index, element)` for all, in order. What is mapped for that is given back on the way.
  template <class Visit>
  void for_each(Visit&& visit) {
    const std::vector<bool> before = mapped_;
    std::size_t begin = 0;
    for (std::uint32_t index = 0; index < size_; ++index) {
      visit(index, (*this)[index]);
      const std::size_t end = sizeof(T) * (index + 1) / kWindow;
      if ((end - begin) * kWindow >= kMuch) unmap(std::exchange(begin, end), end, before);
    }
    unmap(begin, mapped_.size(), before);
  }
  // `count` elements from `base` on, within the array.
  std::span<const T> run(std::uint32_t base, std::uint32_t count) const {
    return count == 0 ? std::span<const T>{} : std::span<const T>{reach(base, count), count};
  }

 private:
  static constexpr std::size_t kWindow = std::size_t{64} << 10;  // bytes; whole pages of any size there is
  static constexpr std::size_t kMuch = std::size_t{2} << 20;

  MappedArray(UniqueFd fd, std::byte* place, std::uint32_t size, std::size_t windows)
      : fd_(std::move(fd)), place_(place), size_(size), mapped_(windows) {}

  // Address space alone, at `place` where `flags` say MAP_FIXED.
  static void* reserve(void* place, std::size_t bytes, int flags) {
    return mmap(place, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
  }

  T* reach(std::uint32_t index, std::uint32_t count) const {
    const std::size_t first = sizeof(T) * index;
    const std::size_t last = first + sizeof(T) * count - 1;
    for (std::size_t window = first / kWindow; window <= last / kWindow; ++window) {
      if (!mapped_[window] && !map(window)) throw std::bad_alloc();
    }
    return reinterpret_cast<T*>(place_ + first);
  }

  bool map(std::size_t window) const {
    const std::size_t bytes = std::min(kWindow, sizeof(T) * size_ - window * kWindow);
    const void* at = mmap(place_ + window * kWindow, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_.get(),
                          static_cast<off_t>(window * kWindow));
    if (at == MAP_FAILED) return false;
    mapped_[window] = true;
    ++windows_;
    return true;
  }

  // Unmaps windows but for those that are to stay; what is beside each other at once, as each time costs all
  // processors.
  void unmap(std::size_t begin, std::size_t end, const std::vector<bool>& stay) {
    for (std::size_t next = begin; begin < end; begin = next + 1) {
      for (next = begin; next < end && !stay[next];) ++next;
      if (next == begin || reserve(place_ + begin * kWindow, (next - begin) * kWindow, MAP_FIXED) == MAP_FAILED)
        continue;
      for (; begin < next; ++begin) {
        windows_ -= mapped_[begin] ? 1 : 0;
        mapped_[begin] = false;
      }
    }
  }

  UniqueFd fd_;
  std::byte* place_;  // of the whole array, reserved
  std::uint32_t size_;
  mutable std::vector<bool> mapped_;  // by window …
  mutable std::size_t windows_ = 0;   // … and how many are
};

// Stores `value` whole, after everything stored before it.
template <class Field>
void store(Field& field, std::type_identity_t<Field> value) {
  std::atomic_ref<Field>(field).store(value, std::memory_order_release);
}

}  // namespace fairlead::datapath
