// SPDX-License-Identifier: Apache-2.0
// MappedArray<T>: a BPF array map seen as memory, so that one field is written by one store.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "agent/base/result.h"

namespace fairlead::datapath {

// Owner: one. Threads: one writer; BPF programs read at the same time, so what they may see is written by store().
// Elements are those of a BPF_F_MMAPABLE array, whose stride is the value's size rounded up to 8 bytes.
template <class T>
class MappedArray {
  static_assert(sizeof(T) % 8 == 0);

 public:
  // Maps all `size` elements of the map behind `fd`, which stays the caller's.
  static Result<MappedArray> open(int fd, std::uint32_t size, const std::string& name) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = (sizeof(T) * size + page - 1) / page * page;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) return fail_errno(errno, fmt::format("map {}: mmap", name));
    return MappedArray(static_cast<T*>(memory), size, bytes);
  }
  MappedArray(MappedArray&& other) noexcept
      : elements_(std::exchange(other.elements_, nullptr)), size_(other.size_), bytes_(other.bytes_) {}
  MappedArray& operator=(MappedArray&&) = delete;
  ~MappedArray() {
    if (elements_ != nullptr) munmap(elements_, bytes_);
  }

  std::uint32_t size() const { return size_; }
  const T& operator[](std::uint32_t index) const { return elements_[index]; }
  T& operator[](std::uint32_t index) { return elements_[index]; }

 private:
  MappedArray(T* elements, std::uint32_t size, std::size_t bytes) : elements_(elements), size_(size), bytes_(bytes) {}
  T* elements_;
  std::uint32_t size_;
  std::size_t bytes_;
};

// Stores `value` whole, after everything stored before it.
template <class Field>
void store(Field& field, std::type_identity_t<Field> value) {
  std::atomic_ref<Field>(field).store(value, std::memory_order_release);
}

}  // namespace fairlead::datapath
