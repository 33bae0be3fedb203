// SPDX-License-Identifier: Apache-2.0
// PodPrograms: the BPF programs at the host side of every pod's veth, and the endpoints that they know.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/mac.h"
#include "agent/base/result.h"
#include "agent/datapath/bpf_root.h"
#include "agent/datapath/object.h"
#include "agent/datapath/policy_maps.h"
#include "agent/datapath/sock_programs.h"

namespace fairlead::datapath {

class Migration;

// Which rules hold for a pod in one direction.
struct PolicyBinding {
  RuleSetId rules = 0;           // 0: not isolated
  std::uint32_t generation = 0;  // of PodPrograms::new_generation(); another one has open connections judged again
  bool operator==(const PolicyBinding&) const = default;
};

// What the data path knows of a pod.
struct PodEndpoint {
  std::uint32_t ifindex = 0;  // host-side device
  std::uint64_t netns_cookie = 0;
  Mac mac{};                         // pod side
  Mac host_mac{};                    // host side
  std::vector<IpAddress> addresses;  // at most one of a family
  bool shaped = false;               // what reaches it takes the host side's egress: a qdisc there limits it
  PolicyBinding ingress{}, egress{};
  bool operator==(const PodEndpoint&) const = default;
};

// Packets judged one way, since the maps were made.
struct VerdictCount {
  std::string reason;  // "forwarded", or a drop's name (bpf/abi/drop.h)
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;
};

// Thread: the network domain's loop; attach() on any. Implemented over pinned maps by BpfPodPrograms; a fake serves
// unit tests.
class PodPrograms {
 public:
  virtual ~PodPrograms() = default;

  // Puts both filters on the device, replacing older ones atomically: no packet passes unjudged in between.
  virtual Result<> attach(std::uint32_t ifindex) = 0;
  // Whether both filters there are of this load of the programs.
  virtual Result<bool> attached(std::uint32_t ifindex) = 0;

  // Makes the maps say `endpoint`; writes nothing where they do. kExists: an address is another endpoint's. Where only
  // the policy differs, no packet is lost; none is allowed by new rules and remembered as allowed for good.
  virtual Result<> upsert(const PodEndpoint& endpoint) = 0;
  // A generation that no endpoint ever had, also not before a restart: no connection remembers a verdict under it.
  virtual Result<std::uint32_t> new_generation() = 0;
  // From here on the device passes nothing and nobody finds the pod. Erasing what is not there succeeds.
  virtual Result<> erase(std::uint32_t ifindex) = 0;
  // All there are; after a restart, those found in the pinned maps.
  virtual std::vector<PodEndpoint> endpoints() const = 0;

  virtual Result<std::vector<VerdictCount>> counters() const = 0;
};

// Sizes of the policy maps (bpf/abi/policy.h). What is there takes memory; the room for it 12 MB.
struct PolicyCapacities {
  std::uint32_t addresses = 262'144;  // of each family
  std::uint32_t cidrs = 65'536;       // of each family
  std::uint32_t peers = 262'144;      // of all rule sets
};

// Sizes of the maps. Maps that are there in another size are replaced under traffic (migration.h).
struct PodCapacities {
  std::uint32_t connections = 131'072;  // of each family; rounded up to a multiple of 64
  std::uint32_t translated = 131'072;   // so many of them, of each family, have room to go through a Service
  SockCapacities services;              // of maps that the socket balancer uses too, where it has not made them yet
  PolicyCapacities policy{};
};

// Loads bpf/pod.bpf.c once beside its data maps pinned in the root, or makes and pins them. Programs and filters
// outlive this object: a filter is held by its device. Connections get the default time-outs (map ct_config) where
// nobody has given them any, and their sweep, in the kernel, runs from here on. Cost: attach 0.2–0.5 ms, upsert and
// erase four map writes.
class BpfPodPrograms final : public PodPrograms {
 public:
  // Maps that are pinned keep their sizes, whatever `capacities` say, except in a migration (migration.h).
  static Result<std::unique_ptr<BpfPodPrograms>> load(const BpfRoot& root, const PodCapacities& capacities = {},
                                                      Migration* migration = nullptr);
  // The maps pinned in `root` that have another size or layout than these capacities want.
  static Result<std::vector<std::string>> changed_maps(const BpfRoot& root, const PodCapacities& capacities);
  ~BpfPodPrograms() override;

  Result<> attach(std::uint32_t ifindex) override;
  Result<bool> attached(std::uint32_t ifindex) override;
  Result<> upsert(const PodEndpoint& endpoint) override;
  Result<std::uint32_t> new_generation() override;
  Result<> erase(std::uint32_t ifindex) override;
  std::vector<PodEndpoint> endpoints() const override;
  Result<std::vector<VerdictCount>> counters() const override;
  Result<std::vector<ProgramFacts>> facts() const;
  // Runs one of the programs that are no device's until it gives 0.
  Result<> run_to_end(const char* program) const;
  // A map by its name in the object; -1 where there is none. The fd stays this object's.
  int map_fd(const char* name) const;

 private:
  struct Maps;
  struct Slot {
    std::uint32_t index = 0;  // in the array `endpoints`
    PodEndpoint endpoint;
  };
  explicit BpfPodPrograms(std::unique_ptr<Maps> maps);

  // Takes over what the pinned maps hold; removes what a crash left half written.
  Result<> adopt();
  Result<> drop_strays();
  Result<> write(const Slot& slot);
  Result<> bind_policy(Slot& slot, const PodEndpoint& endpoint);
  Result<std::uint32_t> free_index();

  std::unique_ptr<Maps> maps_;
  std::map<std::uint32_t, Slot> slots_;          // by ifindex
  std::map<std::uint32_t, std::uint32_t> used_;  // index → ifindex
  // Indexes are given out in turn, so one is used again as late as can be: a program in flight may still hold it.
  std::uint32_t next_index_ = 0;
};

}  // namespace fairlead::datapath
