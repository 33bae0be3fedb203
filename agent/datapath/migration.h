// SPDX-License-Identifier: Apache-2.0
// Migration: pinned maps of another size or layout than this version's are replaced while packets pass.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/datapath/bpf_root.h"
#include "agent/datapath/pod_programs.h"
#include "bpf/abi/service.h"

struct bpf_map;
struct bpf_object;

namespace fairlead::datapath {

// Replaces the maps pinned in `root` that are not as this version, with these capacities, wants them; does nothing
// where there are none. Before the agent loads anything else, with the root locked: nobody writes to the maps but the
// programs that an earlier agent left.
//
// New maps are made beside the pinned ones, in maps~new, and filled: fields by their names, so every index, identity
// and generation stays what it was. Then the folder is maps~used, and every hook that has programs (cgroup, pods,
// uplinks, tunnel) gets new ones over the new maps, each by one atomic replacement; what programs themselves wrote
// meanwhile is made up for; the folder is maps~ready, and the new maps take the pinned names. Connections, which
// packets change all the time, are moved by the kernel while every program looks into both sets (bpf/lib/ct_move.h): no
// packet is lost or passes unjudged. Only where a connection's own layout changed are they made anew, which the log
// says.
//
// An agent that dies in the middle leaves all working; the next one begins again where no program uses the new maps
// yet, else it goes on. Counters of packets may lack what was counted meanwhile, and where an agent died with some
// hooks changed, a backend's count of open connections what the others counted. kExhausted where a map would hold less
// than there is; nothing has changed then. Cost: 0.2 µs an entry, 1 µs a connection, and two loads.
Result<> migrate_maps(const BpfRoot& root, const std::string& cgroup_root, const PodCapacities& capacities);

// One such replacement, as the loaders of objects see it. Owner and thread: migrate_maps().
class Migration {
 public:
  // `resumed`: programs use maps~used already, which an agent that died has made and filled.
  Migration(const BpfRoot& root, bool resumed) : root_(root), resumed_(resumed) {}

  // As load_object(), with a new map, filled, for every pinned one that differs.
  Result<> load(bpf_object* object);
  // Before load(), for the pods' object: gives it the maps that connections are to be moved out of, and tells whether
  // they are.
  Result<bool> give_old_connections(bpf_object* object);
  bool moves_connections() const { return moves_connections_; }

  // From here on programs may use the new maps.
  Result<> use();
  // Makes up for what programs wrote into the old maps since they were copied. No program uses them any more.
  Result<> catch_up();
  // Lets the new maps take the names of the old ones, which go.
  Result<> commit();

 private:
  struct Replaced {
    UniqueFd old;
    int fresh = -1;                   // the loaded object's
    std::vector<backend_use> copied;  // of use4 and use6: what they said
  };
  std::string new_path(const std::string& name) const {
    return fmt::format("{}/{}/{}", root_.path(), resumed_ ? "maps~used" : "maps~new", name);
  }
  bool is_replaced(const bpf_map* map, const bpf_object* object) const;
  Result<bool> take_existing(bpf_map* map, const bpf_object* object, bool replaced);
  Result<> rename_folder(const std::string& from, const std::string& to) const;
  // `filled`: by an agent that died.
  Result<> fill(const bpf_map* map, bool filled);

  const BpfRoot& root_;
  const bool resumed_;
  bool connections_change_ = false;
  bool moves_connections_ = false;
  std::map<std::string, Replaced> replaced_;  // by name; those that were filled from the old ones
};

// The names of the object's maps that are pinned in `root` and differ from what it declares.
Result<std::vector<std::string>> changed_maps(const BpfRoot& root, const bpf_object* object);

}  // namespace fairlead::datapath
