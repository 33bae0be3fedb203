// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/map_copy.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <vector>

#include "agent/datapath/map_shape.h"
#include "agent/datapath/object.h"

namespace fairlead::datapath {
namespace {

constexpr std::uint32_t kBatch = 4096;

// One of a map's two parts, from one layout to another.
struct Part {
  std::uint32_t from_bytes = 0;  // what the kernel moves of one entry
  std::uint32_t to_bytes = 0;
  std::uint32_t from_stride = 0;  // of each copy of a value in there: one, or one a CPU
  std::uint32_t to_stride = 0;
  bool same = true;
  std::vector<FieldCopy> fields;

  void put(const std::uint8_t* from, std::uint8_t* to) const {
    if (same) {
      std::memcpy(to, from, to_bytes);
      return;
    }
    for (std::uint32_t i = 0; i < from_bytes / from_stride; ++i) {
      convert(fields, {from + i * from_stride, from_stride}, {to + i * to_stride, to_stride});
    }
  }
};

// Two maps, and how an entry of the first is put into the second.
struct Copy {
  int from = -1;
  int to = -1;
  std::string name;
  std::uint32_t from_entries = 0;
  std::uint32_t to_entries = 0;
  bool is_array = false;
  Part key, value;
};

bool is_per_cpu(std::uint32_t type) {
  return type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

Part part(TypeRef from, std::uint32_t from_size, TypeRef to, std::uint32_t to_size, std::uint32_t cpus) {
  Part out{from_size, to_size, from_size, to_size, true, {}};
  out.same = from_size == to_size && layout_difference(from, to).empty();
  if (!out.same) out.fields = field_copies(from, to);
  if (cpus == 0) return out;
  for (std::uint32_t* size : {&out.from_stride, &out.to_stride}) *size = (*size + 7) / 8 * 8;
  out.from_bytes = out.from_stride * cpus;
  out.to_bytes = out.to_stride * cpus;
  return out;
}

Result<bpf_map_info> info_of(int map) {
  bpf_map_info info{};
  std::uint32_t size = sizeof(info);
  if (bpf_obj_get_info_by_fd(map, &info, &size) != 0) return fail_errno(errno, "bpf map info");
  return info;
}

Result<Copy> plan(int from, int to) {
  FL_LET(const bpf_map_info before, info_of(from));
  FL_LET(const bpf_map_info after, info_of(to));
  Copy out{.from = from, .to = to, .name = after.name};
  out.from_entries = before.max_entries;
  out.to_entries = after.max_entries;
  if (is_per_cpu(before.type) != is_per_cpu(after.type)) {
    return fail(Code::kInvalid, "map {}: it is per CPU or not, unlike before; {}", out.name, kMapWayOut);
  }
  out.is_array = after.type == BPF_MAP_TYPE_ARRAY || after.type == BPF_MAP_TYPE_PERCPU_ARRAY;
  const auto old = types_of(before);
  if (!old) return fail(Code::kInvalid, "map {}: {}; {}", out.name, old.error().message(), kMapWayOut);
  FL_LET(const MapTypes fresh, types_of(after));
  const auto cpus = is_per_cpu(after.type) ? static_cast<std::uint32_t>(libbpf_num_possible_cpus()) : 0;
  out.key = part(old->key, before.key_size, fresh.key, after.key_size, 0);
  out.value = part(old->value, before.value_size, fresh.value, after.value_size, cpus);
  return out;
}

// Calls `take(keys, values, count)` for all entries, some at a time.
template <class Take>
Result<> read_all(const Copy& copy, Take&& take) {
  std::uint32_t room = std::clamp(copy.from_entries, 1U, kBatch);
  std::vector<std::uint8_t> keys, values, token(std::max(copy.key.from_bytes, 8U));
  for (bool first = true, more = true; more; first = false) {
    std::uint32_t count = 0;
    int status = 0;
    for (;; room *= 2) {  // a hash bucket may hold more than fits
      keys.resize(std::size_t{room} * copy.key.from_bytes);
      values.resize(std::size_t{room} * copy.value.from_bytes);
      count = room;
      status = bpf_map_lookup_batch(copy.from, first ? nullptr : token.data(), token.data(), keys.data(), values.data(),
                                    &count, nullptr);
      if (status == 0 || errno != ENOSPC) break;
    }
    if (status != 0 && errno != ENOENT) return fail_errno(errno, fmt::format("map {}: read", copy.name));
    more = status == 0;
    FL_TRY(take(keys.data(), values.data(), count));
  }
  return {};
}

// Why an entry could not be written, by errno.
std::unexpected<Error> failed_write(const Copy& copy) {
  if (errno == E2BIG || errno == ENOSPC) {
    return fail(Code::kExhausted, "map {}: what it holds does not fit {} entries; give it the room it had, or {}",
                copy.name, copy.to_entries, kMapWayOut);
  }
  return fail_errno(errno, fmt::format("map {}: write", copy.name));
}

bool is_zero(std::span<const std::uint8_t> bytes) {
  return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
}

// How many of an array's elements fit; those that do not must say nothing.
Result<std::uint32_t> fitting(const Copy& copy, const std::uint8_t* keys, const std::uint8_t* values,
                              std::uint32_t count) {
  if (!copy.is_array) return count;
  std::uint32_t first = 0;
  if (count != 0) std::memcpy(&first, keys, sizeof(first));
  const std::uint32_t fit = first >= copy.to_entries ? 0 : std::min(count, copy.to_entries - first);
  if (!is_zero({values + std::size_t{fit} * copy.value.from_bytes, std::size_t{count - fit} * copy.value.from_bytes})) {
    return fail(Code::kExhausted, "map {}: elements beyond {} are in use; give it the room it had, or {}", copy.name,
                copy.to_entries, kMapWayOut);
  }
  return fit;
}

}  // namespace

Result<> copy_map(int from, int to) {
  FL_LET(const Copy copy, plan(from, to));
  std::vector<std::uint8_t> keys, values;
  return read_all(copy,
                  [&](const std::uint8_t* old_keys, const std::uint8_t* old_values, std::uint32_t count) -> Result<> {
                    FL_LET(std::uint32_t fit, fitting(copy, old_keys, old_values, count));
                    if (fit == 0) return {};
                    keys.resize(std::size_t{fit} * copy.key.to_bytes);
                    values.resize(std::size_t{fit} * copy.value.to_bytes);
                    for (std::size_t i = 0; i < fit; ++i) {
                      copy.key.put(old_keys + i * copy.key.from_bytes, keys.data() + i * copy.key.to_bytes);
                      copy.value.put(old_values + i * copy.value.from_bytes, values.data() + i * copy.value.to_bytes);
                    }
                    if (bpf_map_update_batch(copy.to, keys.data(), values.data(), &fit, nullptr) != 0)
                      return failed_write(copy);
                    return {};
                  });
}

Result<> copy_missing(int from, int to) {
  FL_LET(const Copy copy, plan(from, to));
  std::vector<std::uint8_t> key(copy.key.to_bytes), value(copy.value.to_bytes);
  return read_all(copy,
                  [&](const std::uint8_t* old_keys, const std::uint8_t* old_values, std::uint32_t count) -> Result<> {
                    for (std::size_t i = 0; i < count; ++i) {
                      copy.key.put(old_keys + i * copy.key.from_bytes, key.data());
                      copy.value.put(old_values + i * copy.value.from_bytes, value.data());
                      if (bpf_map_update_elem(copy.to, key.data(), value.data(), BPF_NOEXIST) != 0 && errno != EEXIST) {
                        return failed_write(copy);
                      }
                    }
                    return {};
                  });
}

}  // namespace fairlead::datapath
