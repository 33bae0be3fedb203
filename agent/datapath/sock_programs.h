// SPDX-License-Identifier: Apache-2.0
// SockPrograms: the socket load balancer's BPF object (bpf/sock.bpf.c), loaded and attached to a cgroup.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/datapath/bpf_root.h"
#include "agent/datapath/object.h"

namespace fairlead::datapath {

class Migration;

// Sizes of the maps, fixed when they are first made. The defaults take about 150 MB.
struct SockCapacities {
  std::uint32_t frontends = 262'144;  // of each family, and one for each of their addresses
  std::uint32_t services = 262'144;   // entries: Service ports by family
  // Backends of all services, and as many again while sets change. A service that hashes has a table of up to a
  // million: so there is room for the largest one, for what is to take its place, and for all others.
  std::uint32_t run_slots = 3U << 20;
  std::uint32_t backends = 262'144;   // of each family
  std::uint32_t affinities = 65'536;  // clients × services remembered, of each family
  std::uint32_t clients = 16'384;     // network namespaces served
  std::uint32_t connected = 262'144;  // sockets connected through Services; a power of two
  std::uint32_t spilled = 16'384;     // peers of UDP sockets that talk to more than four services
};

// The cgroup2 mount of this machine (on a hybrid one /sys/fs/cgroup/unified).
Result<std::string> find_cgroup2_root();

// Owner: main, before and longer than what uses its maps. Thread: main's. Nothing is undone by the destructor:
// programs, maps and links live on by their pins. Cost: load about 50 ms.
class SockPrograms {
 public:
  // Loads the programs beside those that run now, over the maps pinned in `root` (or new ones), or over those of a
  // migration. Attaches nothing. The calling thread is in the node's network namespace, whose loopback is the one that
  // Services can be at.
  static Result<std::unique_ptr<SockPrograms>> load(const BpfRoot& root, const SockCapacities& capacities,
                                                    Migration* migration = nullptr);
  // The maps pinned in `root` that load() would refuse for these capacities.
  static Result<std::vector<std::string>> changed_maps(const BpfRoot& root, const SockCapacities& capacities);
  ~SockPrograms();

  // Lets the hooks of the cgroup at `cgroup_root` run these programs, one atomic replacement each.
  Result<> attach(const std::string& cgroup_root);

  // A map by its name in the object; -1 where there is none. The fd stays this object's.
  int map_fd(const char* name) const;
  Result<std::vector<ProgramFacts>> facts() const;

 private:
  struct Skeleton;
  SockPrograms(const BpfRoot& root, std::unique_ptr<Skeleton> skeleton);
  const BpfRoot& root_;
  std::unique_ptr<Skeleton> skeleton_;
};

}  // namespace fairlead::datapath
