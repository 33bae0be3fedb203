// SPDX-License-Identifier: Apache-2.0
// Loading a BPF object beside what an earlier agent left pinned: maps are taken over, links change programs atomically.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/datapath/bpf_root.h"

struct bpf_link;
struct bpf_map;
struct bpf_object;
struct bpf_program;

namespace fairlead::datapath {

// Owns a skeleton: Object<sock_bpf, sock_bpf__destroy>. Destroying it unloads nothing that is pinned or attached.
template <class Skeleton, void (*destroy)(Skeleton*)>
struct DestroySkeleton {
  void operator()(Skeleton* skeleton) const { destroy(skeleton); }
};
template <class Skeleton, void (*destroy)(Skeleton*)>
using Object = std::unique_ptr<Skeleton, DestroySkeleton<Skeleton, destroy>>;

// What somebody can do whose kernel refused a program, a link or a filter with this errno: goes at an error's end.
std::string_view kernel_way_out(int sys);

// The end of an error about a map that cannot be used.
inline constexpr std::string_view kMapWayOut =
    "run `fairlead-agent cleanup` (existing connections lose their state), or give this agent another --bpf-root";

// Loads an opened, configured object (sizes and read-only data set). Every map that is kept (is_kept()) is the one
// pinned under its name in `root` where there is one, else a new one, pinned after the load. A pinned map of another
// type, size, capacity or layout is refused: the error names the map, what differs and the way out; nothing has changed
// then (migration.h is what changes it). A verifier's refusal carries its last lines.
Result<> load_object(bpf_object* object, const BpfRoot& root);

// The last step alone: its maps have been chosen.
Result<> load_as_it_is(bpf_object* object);
Result<> pin_map(bpf_map* map, const std::string& path);

// Loads an opened object over the maps of one that is loaded: every data map is the one that `map_fd` gives for its
// name.
Result<> load_sharing(bpf_object* object, const std::function<int(const char* map)>& map_fd);

// A loaded program, for the record of what the verifier had to do.
struct ProgramFacts {
  std::string name;
  std::uint32_t id = 0;
  std::uint32_t verified_instructions = 0;
};
// Of every program of a loaded object.
Result<std::vector<ProgramFacts>> program_facts(const bpf_object* object);

// Lets the link pinned as `name` run `program`, which is loaded. Attached already, as `same_place` recognises it: the
// program is swapped atomically and the link stays the same. Otherwise `attach` makes a link, which is pinned in place
// of what was there. The link outlives the agent.
struct Attachment {
  std::string name;  // the link's name below links/
  bpf_program* program = nullptr;
  std::function<bool(int link_fd)> same_place;
  std::function<bpf_link*()> attach;  // NULL and errno on failure
};
Result<> attach_pinned(const Attachment& attachment, const BpfRoot& root);

// An attachment of a cgroup program to the cgroup open as `cgroup_fd`, which outlives the call of attach_pinned.
Attachment cgroup_attachment(bpf_program* program, int cgroup_fd);

}  // namespace fairlead::datapath
