// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/layout.h"

#include <bpf/btf.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

namespace fairlead::datapath {
namespace {

// Name and offset in bits → size in bytes. A union's members may share an offset, hence the name in the key.
using Scalars = std::map<std::pair<std::uint32_t, std::string>, std::int64_t>;

void collect(TypeRef ref, std::uint32_t offset, const std::string& name, Scalars& out) {
  const int id = btf__resolve_type(ref.types, ref.id);
  const btf_type* type = id > 0 ? btf__type_by_id(ref.types, id) : nullptr;
  if (type == nullptr) return;
  if (btf_is_composite(type)) {
    const btf_member* members = btf_members(type);
    for (std::uint32_t i = 0; i < btf_vlen(type); ++i) {
      const std::string_view member = btf__name_by_offset(ref.types, members[i].name_off);
      if (member.starts_with("reserved") || member.starts_with("pad")) continue;
      const std::string path =
          name.empty() || member.empty() ? name + std::string(member) : fmt::format("{}.{}", name, member);
      collect({ref.types, members[i].type}, offset + btf_member_bit_offset(type, i), path, out);
    }
    return;
  }
  out[{offset, name.empty() ? "value" : name}] = btf__resolve_size(ref.types, id);
}

}  // namespace

std::string layout_difference(TypeRef pinned, TypeRef wanted) {
  Scalars before;
  Scalars after;
  collect(pinned, 0, "", before);
  collect(wanted, 0, "", after);
  for (const auto& [field, size] : before) {
    const auto found = after.find(field);
    if (found == after.end() || found->second != size) return field.second;
  }
  return "";
}

std::vector<FieldCopy> field_copies(TypeRef pinned, TypeRef wanted) {
  Scalars before;
  Scalars after;
  collect(pinned, 0, "", before);
  collect(wanted, 0, "", after);
  std::map<std::string, std::pair<std::uint32_t, std::int64_t>> by_name;  // offset in bytes, size
  for (const auto& [field, size] : before) by_name[field.second] = {field.first / 8, size};
  std::vector<FieldCopy> copies;
  for (const auto& [field, size] : after) {
    const auto found = by_name.find(field.second);
    if (found == by_name.end()) continue;
    const auto& [offset, bytes] = found->second;
    copies.push_back({offset, field.first / 8, static_cast<std::uint32_t>(std::min(bytes, size))});
  }
  return copies;
}

void convert(std::span<const FieldCopy> copies, std::span<const std::uint8_t> from, std::span<std::uint8_t> to) {
  std::ranges::fill(to, std::uint8_t{0});
  for (const FieldCopy& copy : copies) {
    std::ranges::copy(from.subspan(copy.from, copy.bytes), to.subspan(copy.to, copy.bytes).begin());
  }
}

}  // namespace fairlead::datapath
