// SPDX-License-Identifier: Apache-2.0
// Whether two versions of a struct, as BTF tells them, mean the same bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

struct btf;

namespace fairlead::datapath {

struct TypeRef {
  const btf* types = nullptr;
  std::uint32_t id = 0;  // 0: void
};

// How `wanted` fails to read what was written as `pinned`: the name of the first field that moved, or "" where it does
// not. Every named scalar of `pinned` has to be in `wanted` by the same name, offset and size; fields called
// `reserved…` and `pad…` may turn into named ones, which is how a layout grows.
std::string layout_difference(TypeRef pinned, TypeRef wanted);

// Bytes of one struct that are a field of another one, too.
struct FieldCopy {
  std::uint32_t from = 0;  // offset
  std::uint32_t to = 0;    // offset
  std::uint32_t bytes = 0;
  bool operator==(const FieldCopy&) const = default;
};

// How what was written as `pinned` is put as `wanted`: every field that both have by the same name, as many bytes of it
// as both have (all numbers are little-endian or of one size). What only `pinned` has is left out, what only `wanted`
// has is zero; so a field that comes to mean something else gets another name.
std::vector<FieldCopy> field_copies(TypeRef pinned, TypeRef wanted);

// Writes `from` by `copies` into `to`, and zero elsewhere.
void convert(std::span<const FieldCopy> copies, std::span<const std::uint8_t> from, std::span<std::uint8_t> to);

}  // namespace fairlead::datapath
