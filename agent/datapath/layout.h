// SPDX-License-Identifier: Apache-2.0
// Whether two versions of a struct, as BTF tells them, mean the same bytes.
#pragma once

#include <cstdint>
#include <string>

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

}  // namespace fairlead::datapath
