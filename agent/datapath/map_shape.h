// SPDX-License-Identifier: Apache-2.0
// What a pinned map is, beside what an object declares.
#pragma once

#include <memory>
#include <string>

#include "agent/base/result.h"
#include "agent/datapath/layout.h"

struct bpf_map;
struct bpf_map_info;
struct bpf_object;

namespace fairlead::datapath {

struct DestroyBtf {
  void operator()(btf* types) const;
};

// The types of a map in the kernel; they live as long as this.
struct MapTypes {
  std::unique_ptr<btf, DestroyBtf> types;  // none: it has none
  TypeRef key, value;
};
Result<MapTypes> types_of(const bpf_map_info& info);

// How a pinned map differs from the one that an object declares. Texts go into sentences: "its capacity is …".
struct MapDifference {
  std::string layout;  // of type, sizes or fields; "": what is in there is read as it is
  std::string room;    // of flags or capacity
  bool any() const { return !layout.empty() || !room.empty(); }
  const std::string& text() const { return layout.empty() ? room : layout; }
};
// `pinned` is the map's descriptor, `map` one of `object`.
Result<MapDifference> compare(int pinned, const bpf_map* map, const bpf_object* object);

// Whether the map outlives the programs that use it: all do but libbpf's own (.rodata, .bss), program arrays, and maps
// called tmp_… (of no worth once a packet is through) or old_… (of a move, bpf/lib/ct_move.h; else one element each).
bool is_kept(const bpf_map* map);

}  // namespace fairlead::datapath
