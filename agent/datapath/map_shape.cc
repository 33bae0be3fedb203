// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/map_shape.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <string_view>

namespace fairlead::datapath {
namespace {

// How many entries the kernel makes of `wanted`: only LRU lists of their own per CPU are rounded.
std::uint32_t kernel_entries(const bpf_map* map, std::uint32_t wanted) {
  if ((bpf_map__map_flags(map) & BPF_F_NO_COMMON_LRU) == 0) return wanted;
  const auto cpus = static_cast<std::uint32_t>(libbpf_num_possible_cpus());
  return (wanted + cpus - 1) / cpus * cpus;
}

template <class T>
std::string differs(const char* what, T pinned, T wanted) {
  return pinned == wanted ? "" : fmt::format("its {} is {}, this agent needs {}", what, pinned, wanted);
}

std::string layout_of(const bpf_map_info& info, const bpf_map* map, const btf* wanted) {
  for (const std::string& text : {differs("type", info.type, static_cast<std::uint32_t>(bpf_map__type(map))),
                                  differs("key size", info.key_size, bpf_map__key_size(map)),
                                  differs("value size", info.value_size, bpf_map__value_size(map))}) {
    if (!text.empty()) return text;
  }
  if (bpf_map__btf_value_type_id(map) == 0) return "";  // a ring buffer has no types
  const auto types = types_of(info);
  if (!types) return types.error().message();
  const std::string key = layout_difference(types->key, {wanted, bpf_map__btf_key_type_id(map)});
  if (!key.empty()) return fmt::format("its key's field `{}` is elsewhere", key);
  const std::string value = layout_difference(types->value, {wanted, bpf_map__btf_value_type_id(map)});
  return value.empty() ? "" : fmt::format("its value's field `{}` is elsewhere", value);
}

}  // namespace

void DestroyBtf::operator()(btf* types) const {
  btf__free(types);
}

Result<MapTypes> types_of(const bpf_map_info& info) {
  if (info.btf_id == 0) return fail(Code::kInvalid, "it carries no type information");
  MapTypes out;
  out.types.reset(btf__load_from_kernel_by_id(info.btf_id));
  if (out.types == nullptr) return fail_errno(errno, "its type information cannot be read");
  out.key = {out.types.get(), info.btf_key_type_id};
  out.value = {out.types.get(), info.btf_value_type_id};
  return out;
}

Result<MapDifference> compare(int pinned, const bpf_map* map, const bpf_object* object) {
  bpf_map_info info{};
  std::uint32_t size = sizeof(info);
  if (bpf_obj_get_info_by_fd(pinned, &info, &size) != 0) {
    return fail_errno(errno, fmt::format("map {}: info", bpf_map__name(map)));
  }
  MapDifference out;
  out.layout = layout_of(info, map, bpf_object__btf(object));
  out.room = differs("flags", info.map_flags, bpf_map__map_flags(map));
  if (out.room.empty()) {
    out.room = differs("capacity", info.max_entries, kernel_entries(map, bpf_map__max_entries(map)));
  }
  return out;
}

bool is_kept(const bpf_map* map) {
  const std::string_view name = bpf_map__name(map);
  return !bpf_map__is_internal(map) && bpf_map__type(map) != BPF_MAP_TYPE_PROG_ARRAY && !name.starts_with("tmp_") &&
         !name.starts_with("old_");
}

}  // namespace fairlead::datapath
