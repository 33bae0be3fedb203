// SPDX-License-Identifier: Apache-2.0
// BpfNodePaths: NodePaths over the pinned maps and the programs of uplinks and of the tunnel.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "agent/datapath/bpf_root.h"
#include "agent/datapath/device_hook.h"
#include "agent/datapath/map.h"
#include "agent/datapath/node_paths.h"
#include "agent/datapath/object.h"
#include "bpf/abi/path.h"

namespace fairlead::datapath {

class BpfPodPrograms;

// Loads bpf/host.bpf.c and bpf/overlay.bpf.c once over the maps of the pods' programs. Maps, links and filters outlive
// this object; what they say is taken over by the next one. Thread: one at a time. Cost: a path three to five map
// writes; a device 16 ms.
class BpfNodePaths final : public NodePaths {
 public:
  // `programs` and `root` live longer.
  static Result<std::unique_ptr<BpfNodePaths>> load(const BpfPodPrograms& programs, const BpfRoot& root);
  ~BpfNodePaths() override;

  Result<> set_path(const Cidr& destination, const Path& path) override;
  Result<> erase_path(const Cidr& destination) override;
  Result<std::map<Cidr, Path>> paths() const override;

  Result<> set_masquerade(const Masquerade& masquerade) override;
  Result<> set_tunnel(const std::optional<Tunnel>& tunnel) override;

  Result<> attach_uplink(std::uint32_t ifindex) override;
  Result<> attach_tunnel(std::uint32_t ifindex) override;
  Result<bool> attached(std::uint32_t ifindex) const override;
  Result<std::set<std::uint32_t>> leftovers(const std::vector<std::uint32_t>& there) const override;
  Result<> detach(std::uint32_t ifindex) override;

  // Puts this load's programs at every uplink and tunnel that an earlier one's were put at.
  Result<> attach_known();

  // Of objects "host" and "overlay".
  Result<std::map<std::string, std::vector<ProgramFacts>>> facts() const;

 private:
  struct Objects;
  struct Held {
    Path path;
    std::uint32_t element = 0;  // kNode: in `node_paths`
  };
  BpfNodePaths(std::unique_ptr<Objects> objects, const BpfRoot& root);

  Result<> adopt();
  Result<> adopt(const Cidr& destination, const path& record, std::vector<Cidr>& broken);
  Result<> write(const Cidr& destination, const Path& path);
  Result<> renew_around(const Cidr& destination);
  Result<std::uint32_t> free_element();
  Result<> configure(const path_config& wanted);

  std::unique_ptr<Objects> objects_;
  const BpfRoot& root_;
  std::map<Cidr, Held> held_;
  std::map<std::uint32_t, Cidr> elements_;                      // those of `node_paths` in use
  std::map<std::pair<Family, unsigned>, std::size_t> lengths_;  // how many prefixes of a length there are
  std::uint32_t next_element_ = 0;                              // given out in turn: used again as late as can be
  path_config config_{};                                        // in force
  std::map<std::uint32_t, std::array<DeviceHook, 2>> hooks_;    // of devices that have this load's programs
};

}  // namespace fairlead::datapath
