// SPDX-License-Identifier: Apache-2.0
// Map<K, V>: a BPF map as a typed C++ object.
#pragma once

#include <bpf/bpf.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace fairlead::datapath {

// Owner: one; the map itself lives on while it is pinned or a program uses it. Threads: any, the kernel orders the
// calls; a lookup of a hash value that is being replaced may see it torn. Cost: a system call each, for_each one per
// 1,024 entries. Not for per-CPU maps.
template <class K, class V>
class Map {
  static_assert(std::is_trivially_copyable_v<K> && std::is_trivially_copyable_v<V>);

 public:
  Map() = default;

  // A handle of its own to the map behind `fd`, which stays the caller's (a skeleton's, as a rule). Sizes that differ
  // from K's and V's are refused.
  static Result<Map> duplicate(int fd) {
    bpf_map_info info{};
    std::uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0) return fail_errno(errno, "bpf map info");
    if (info.key_size != sizeof(K) || info.value_size != sizeof(V)) {
      return fail(Code::kInvalid, "map {}: key and value have {} and {} bytes, not {} and {}", info.name, info.key_size,
                  info.value_size, sizeof(K), sizeof(V));
    }
    UniqueFd own(fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!own) return fail_errno(errno, fmt::format("map {}: dup", info.name));
    return Map(std::move(own), info.name, info.max_entries, info.id);
  }

  // The map pinned at `path`.
  static Result<Map> open(const std::string& path) {
    UniqueFd fd(bpf_obj_get(path.c_str()));
    if (!fd) return fail_errno(errno, fmt::format("map {}", path));
    return duplicate(fd.get());
  }

  const std::string& name() const { return name_; }
  std::uint32_t capacity() const { return capacity_; }
  std::uint32_t id() const { return id_; }
  int fd() const { return fd_.get(); }

  Result<std::optional<V>> lookup(const K& key) const {
    V value{};
    if (bpf_map_lookup_elem(fd_.get(), &key, &value) == 0) return value;
    if (errno == ENOENT) return std::nullopt;
    return failed("lookup");
  }

  // kExists or kNotFound where `flags` (BPF_NOEXIST, BPF_EXIST) say so; kExhausted, with the capacity, where it is
  // full.
  Result<> update(const K& key, const V& value, std::uint64_t flags = BPF_ANY) {
    if (bpf_map_update_elem(fd_.get(), &key, &value, flags) == 0) return {};
    if (errno == E2BIG || errno == ENOSPC)
      return fail(Code::kExhausted, "map {} is full ({} entries)", name_, capacity_);
    return failed("update");
  }

  // One system call for all, in this order, up to the first that fails; how many were written. Two of equal size.
  std::size_t update(const std::vector<K>& keys, const std::vector<V>& values) {
    auto count = static_cast<std::uint32_t>(keys.size());
    if (count != 0) bpf_map_update_batch(fd_.get(), keys.data(), values.data(), &count, nullptr);
    return count;
  }

  // False where there was nothing.
  Result<bool> erase(const K& key) {
    if (bpf_map_delete_elem(fd_.get(), &key) == 0) return true;
    if (errno == ENOENT) return false;
    return failed("delete");
  }

  // Calls `visit(key, value)` for each entry. Entries that come or go meanwhile may be seen or not. `visit` must not
  // change the map. Hash and array maps.
  template <class Visit>
  Result<> for_each(Visit&& visit) const {
    std::uint32_t room = std::clamp(capacity_, 1U, 1024U);
    std::vector<K> keys(room);
    std::vector<V> values(room);
    alignas(8) std::uint8_t token[std::max(sizeof(K), sizeof(std::uint64_t))];
    for (bool first = true, more = true; more; first = false) {
      std::uint32_t count = room;
      int status = 0;
      for (;;) {
        status = bpf_map_lookup_batch(fd_.get(), first ? nullptr : token, token, keys.data(), values.data(), &count,
                                      nullptr);
        if (status == 0 || errno != ENOSPC) break;
        room = count = room * 2;  // a hash bucket holds more than fits
        keys.resize(room);
        values.resize(room);
      }
      if (status != 0 && errno != ENOENT) return failed("batch lookup");
      more = status == 0;
      for (std::uint32_t i = 0; i < count; ++i) visit(std::as_const(keys[i]), std::as_const(values[i]));
    }
    return {};
  }

  // How many entries there are: walks the map.
  Result<std::uint32_t> count() const {
    std::uint32_t entries = 0;
    FL_TRY(for_each([&](const K&, const V&) { ++entries; }));
    return entries;
  }

 private:
  Map(UniqueFd fd, std::string name, std::uint32_t capacity, std::uint32_t id)
      : fd_(std::move(fd)), name_(std::move(name)), capacity_(capacity), id_(id) {}
  std::unexpected<Error> failed(const char* operation) const {
    return fail_errno(errno, fmt::format("map {}: {}", name_, operation));
  }

  UniqueFd fd_;
  std::string name_;
  std::uint32_t capacity_ = 0;
  std::uint32_t id_ = 0;
};

}  // namespace fairlead::datapath
