// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/migration.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string_view>

#include "agent/base/log.h"
#include "agent/datapath/bpf_node_paths.h"
#include "agent/datapath/grace_period.h"
#include "agent/datapath/map.h"
#include "agent/datapath/map_copy.h"
#include "agent/datapath/map_shape.h"
#include "agent/datapath/mapped_array.h"
#include "agent/datapath/object.h"
#include "bpf/abi/conntrack.h"
#include "bpf/abi/service.h"

namespace fairlead::datapath {
namespace {

namespace fs = std::filesystem;

// The maps that hold connections: of one load, all or none.
constexpr std::array<std::string_view, 7> kConnectionMaps{"ct4",      "ct6",      "ct4_slots", "ct6_slots",
                                                          "ct4_ring", "ct6_ring", "ct_shards"};

bool holds_connections(std::string_view name) {
  return std::ranges::count(kConnectionMaps, name) != 0;
}

// Hashes that programs themselves put entries into.
constexpr std::array<std::string_view, 5> kFilledByPrograms{"affinity4", "affinity6", "frags4", "frags6", "sk_spill"};

// Of these the programs count up and down what the agent gave: by how much meanwhile counts, not what it says now.
bool counts_use(std::string_view name) {
  return name == "use4" || name == "use6";
}

UniqueFd open_pinned(const std::string& path) {
  return UniqueFd(bpf_obj_get(path.c_str()));
}

bool is_gone(const Error& error) {
  return error.sys == ENODEV || error.code == Code::kNotFound;
}

Result<MappedArray<backend_use>> open_use(int fd, const std::string& name) {
  FL_LET(const auto map, (Map<std::uint32_t, backend_use>::duplicate(fd)));
  return MappedArray<backend_use>::open(fd, map.capacity(), name);
}

// Adds what was counted from `before` to `after`; BPF programs count there at the same time.
void add_use(backend_use& to, const backend_use& before, const backend_use& after) {
  if (before.generation != after.generation) return;
  if (before.open == after.open && before.hits == after.hits) return;
  std::atomic_ref(to.open).fetch_add(after.open - before.open);
  std::atomic_ref(to.hits).fetch_add(after.hits - before.hits);
}

// The last step of a migration, which an earlier agent may have begun.
Result<> take_names(const BpfRoot& root) {
  const fs::path ready = root.path() + "/maps~ready";
  std::error_code error;
  if (!fs::exists(ready, error)) return {};
  for (const fs::directory_entry& entry : fs::directory_iterator(ready, error)) {
    const std::string name = entry.path().filename();
    if (rename(entry.path().c_str(), root.map_path(name).c_str()) != 0) {
      return fail_errno(errno, fmt::format("map {}: take its name", entry.path().string()));
    }
  }
  if (rmdir(ready.c_str()) != 0) return fail_errno(errno, fmt::format("remove {}", ready.string()));
  return {};
}

// New maps that no program uses: nobody knows how far they were filled.
void remove_unused(const BpfRoot& root) {
  std::error_code ignored;
  fs::remove_all(root.path() + "/maps~new", ignored);
}

// Runs the program that moves connections to its end.
Result<> move_connections(const BpfPodPrograms& pods) {
  FL_LET(auto state, (Map<std::uint32_t, struct ct_move>::duplicate(pods.map_fd("old_ct_move"))));
  // From here on all programs look into both sets: those that did not have ended.
  FL_LET(auto before, GracePeriod::start());
  FL_TRY(state.update(0, {.all_look = 1}));
  // … and from here on none puts a new connection into the old one.
  FL_LET(auto after, GracePeriod::start());
  FL_TRY(pods.run_to_end("ct_move"));
  FL_LET(const auto done, state.lookup(0));
  log::info("datapath", "connections moved to maps of another size", {{"moved", done->moved}, {"no_room", done->lost}});
  return {};
}

// All programs, over maps of which those that changed are new.
struct Loaded {
  std::unique_ptr<SockPrograms> sockets;
  std::unique_ptr<BpfPodPrograms> pods;
  std::unique_ptr<BpfNodePaths> paths;
};
Result<Loaded> load_all(const BpfRoot& root, const PodCapacities& capacities, Migration& migration) {
  Loaded out;
  FL_LET(out.sockets, SockPrograms::load(root, capacities.services, &migration));
  FL_LET(out.pods, BpfPodPrograms::load(root, capacities, &migration));
  FL_LET(out.paths, BpfNodePaths::load(*out.pods, root));
  return out;
}

// Lets every hook that an earlier agent's programs are at run those of this load.
Result<> attach_everywhere(SockPrograms& sockets, const std::string& cgroup_root, BpfPodPrograms& pods,
                           BpfNodePaths& paths) {
  FL_TRY(sockets.attach(cgroup_root));
  for (const PodEndpoint& endpoint : pods.endpoints()) {
    if (auto attached = pods.attach(endpoint.ifindex); !attached && !is_gone(attached.error())) return attached;
  }
  return paths.attach_known();
}

}  // namespace

Result<std::vector<std::string>> changed_maps(const BpfRoot& root, const bpf_object* object) {
  std::vector<std::string> changed;
  const bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    const UniqueFd pinned = is_kept(map) ? open_pinned(root.map_path(bpf_map__name(map))) : UniqueFd();
    if (!pinned) continue;
    FL_LET(const MapDifference difference, compare(pinned.get(), map, object));
    if (!difference.any()) continue;
    log::info("datapath", "a map changes", {{"map", bpf_map__name(map)}, {"because", difference.text()}});
    changed.emplace_back(bpf_map__name(map));
  }
  return changed;
}

Result<> migrate_maps(const BpfRoot& root, const std::string& cgroup_root, const PodCapacities& capacities) {
  FL_TRY(take_names(root));
  remove_unused(root);
  FL_LET(const auto of_sockets, SockPrograms::changed_maps(root, capacities.services));
  FL_LET(const auto of_pods, BpfPodPrograms::changed_maps(root, capacities));
  if (of_sockets.empty() && of_pods.empty()) return {};
  Migration migration(root, fs::exists(root.path() + "/maps~used"));
  auto loaded = load_all(root, capacities, migration);
  if (!loaded) {
    remove_unused(root);
    return std::unexpected(loaded.error());
  }
  FL_TRY(migration.use());
  const auto& [sockets, pods, paths] = *loaded;
  FL_TRY(attach_everywhere(*sockets, cgroup_root, *pods, *paths));
  if (migration.moves_connections()) FL_TRY(move_connections(*pods));
  FL_LET(const auto grace, GracePeriod::start());
  FL_TRY(migration.catch_up());
  return migration.commit();
}

Result<bool> Migration::give_old_connections(bpf_object* object) {
  std::array<UniqueFd, kConnectionMaps.size()> old;
  bool known = true;
  for (std::size_t i = 0; i < old.size(); ++i) {
    const std::string name(kConnectionMaps[i]);
    const bpf_map* map = bpf_object__find_map_by_name(object, name.c_str());
    old[i] = open_pinned(root_.map_path(name));
    if (!old[i]) return false;  // there were none
    FL_LET(const MapDifference difference, compare(old[i].get(), map, object));
    connections_change_ = connections_change_ || difference.any();
    if (!difference.layout.empty()) {
      log::warn("datapath", "connections are made anew: this version cannot read the earlier one's",
                {{"map", name}, {"because", difference.layout}});
      known = false;
    }
  }
  if (!connections_change_ || !known) return false;
  for (std::size_t i = 0; i < old.size(); ++i) {
    const std::string name = fmt::format("old_{}", kConnectionMaps[i]);
    const int status = bpf_map__reuse_fd(bpf_object__find_map_by_name(object, name.c_str()), old[i].get());
    if (status != 0) return fail_errno(-status, fmt::format("map {}: reuse", name));
  }
  moves_connections_ = true;
  return true;
}

// Whether the map is made anew though one is pinned.
bool Migration::is_replaced(const bpf_map* map, const bpf_object* object) const {
  const std::string name = bpf_map__name(map);
  if (holds_connections(name)) return connections_change_;
  const UniqueFd pinned = open_pinned(root_.map_path(name));
  const auto difference = pinned ? compare(pinned.get(), map, object) : Result<MapDifference>(MapDifference{});
  return difference && difference->any();
}

// A map that this migration, or an earlier one that got no further, has made; else the pinned one where it serves.
Result<bool> Migration::take_existing(bpf_map* map, const bpf_object* object, bool replaced) {
  const std::string name = bpf_map__name(map);
  const std::string path = new_path(name);
  UniqueFd found = open_pinned(path);
  if (found) {
    FL_LET(const MapDifference difference, compare(found.get(), map, object));
    if (difference.any()) {
      unlink(path.c_str());
      found.reset();
    }
  }
  if (!found && !replaced) found = open_pinned(root_.map_path(name));
  if (!found) return false;
  const int status = bpf_map__reuse_fd(map, found.get());
  if (status != 0) return fail_errno(-status, fmt::format("map {}: reuse", name));
  return true;
}

Result<> Migration::load(bpf_object* object) {
  std::error_code error;
  fs::create_directories(new_path(""), error);
  if (error) return fail_errno(error.value(), fmt::format("make {}", new_path("")));
  std::vector<bpf_map*> made;
  std::vector<std::pair<bpf_map*, bool>> replaced;  // and whether that was done before
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (!is_kept(map) || bpf_map__fd(map) >= 0) continue;  // the old connections' are there, by the names they had
    // Decided while the map is as its object declares it: one that is reused says what the kernel's says.
    const bool is_new = is_replaced(map, object);
    FL_LET(const bool taken, take_existing(map, object, is_new));
    if (!taken) made.push_back(map);
    if (is_new) replaced.emplace_back(map, taken);
  }
  FL_TRY(load_as_it_is(object));
  for (bpf_map* each : made) FL_TRY(pin_map(each, new_path(bpf_map__name(each))));
  for (const auto& [each, filled] : replaced) {
    if (!replaced_.contains(bpf_map__name(each))) FL_TRY(fill(each, filled));
  }
  return {};
}

Result<> Migration::fill(const bpf_map* map, bool filled) {
  const std::string name = bpf_map__name(map);
  const bpf_map_type type = bpf_map__type(map);
  if (holds_connections(name) || type == BPF_MAP_TYPE_RINGBUF) return {};  // moved; events that nobody read
  // Who would tell a memory's home in another size, while sockets come and go?
  if (type == BPF_MAP_TYPE_SK_STORAGE || name == "sk_memory") {
    return fail(Code::kConflict, "map {}: what sockets remember cannot be written anew; {}", name, kMapWayOut);
  }
  Replaced& replaced = replaced_[name];
  replaced = {open_pinned(root_.map_path(name)), bpf_map__fd(map), {}};
  if (!replaced.old) return fail_errno(errno, fmt::format("map {}: open", root_.map_path(name)));
  if (filled) return {};
  if (counts_use(name)) {
    if (const auto old = open_use(replaced.old.get(), name)) {
      const auto all = old->run(0, old->size());
      replaced.copied.assign(all.begin(), all.end());
    }
  }
  return copy_map(replaced.old.get(), replaced.fresh);
}

Result<> Migration::catch_up() {
  for (const auto& [name, replaced] : replaced_) {
    if (std::ranges::count(kFilledByPrograms, name) != 0) {
      FL_TRY(copy_missing(replaced.old.get(), replaced.fresh));
    }
    if (replaced.copied.empty()) continue;
    FL_LET(const auto old, open_use(replaced.old.get(), name));
    FL_LET(auto fresh, open_use(replaced.fresh, name));
    for (std::uint32_t i = 0; i < std::min(old.size(), fresh.size()); ++i)
      add_use(fresh[i], replaced.copied[i], old[i]);
  }
  return {};
}

Result<> Migration::use() {
  return resumed_ ? Result<>() : rename_folder("maps~new", "maps~used");
}

Result<> Migration::commit() {
  FL_TRY(rename_folder("maps~used", "maps~ready"));
  return take_names(root_);
}

Result<> Migration::rename_folder(const std::string& from, const std::string& to) const {
  const std::string before = root_.path() + "/" + from, after = root_.path() + "/" + to;
  return rename(before.c_str(), after.c_str()) == 0 ? Result<>() : fail_errno(errno, fmt::format("rename {}", before));
}

}  // namespace fairlead::datapath
