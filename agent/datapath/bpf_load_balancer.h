// SPDX-License-Identifier: Apache-2.0
// BpfLoadBalancer: Services in the pinned maps of the socket load balancer.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "agent/base/channel.h"
#include "agent/datapath/adoption.h"
#include "agent/datapath/load_balancer.h"
#include "agent/datapath/service_ids.h"
#include "agent/datapath/service_maps.h"
#include "agent/datapath/sock_programs.h"

namespace fairlead::datapath {

// Owner: main; thread: the services domain's loop. Each change is a transaction: take all it needs, write the new
// backends and the new run beside what is in use, publish by one store, then retire what is no longer used. Cost: apply
// is one system call for each changed frontend, and memory writes for the rest; opening reads all maps once.
class BpfLoadBalancer final : public LoadBalancer {
 public:
  // Takes over what the maps of `programs` hold. Writes nothing but to free what a crash left half written. That
  // backends left a service is told to `gone`, once they did; by default to nobody.
  static Result<std::unique_ptr<BpfLoadBalancer>> open(const SockPrograms& programs,
                                                       Sender<BackendsGone> gone = make_channel<BackendsGone>().first);

  Result<> apply(const std::string& name, const ServiceEntry& entry) override;
  Result<> remove(const std::string& name) override;
  Result<> remove_unclaimed() override;
  std::vector<MapUsage> usage() const override;
  ServiceUse use(const std::string& name) const override;
  Result<std::set<std::string>> audit() override;

 private:
  BpfLoadBalancer(ServiceMaps maps, Adopted adopted, std::unique_ptr<GracePeriod> grace, Sender<BackendsGone> gone);

  // The index of `name`'s service; of an unclaimed one with a frontend of `entry`, which `name` then claims; or 0.
  std::uint32_t find_or_claim(const std::string& name, const ServiceEntry& entry);
  Result<> create(const std::string& name, const ServiceEntry& entry);
  Result<> change(LiveService& live, const ServiceEntry& entry);
  // Makes the maps say which addresses are services', where `there` is what they say now.
  Result<> settle_addresses(const std::set<IpAddress>& there);
  // Lets the frontends lead to service `index`; on failure as before. A service that had one of them has it no longer:
  // its next apply() takes it back.
  Result<> add_frontends(const std::vector<Frontend>& frontends, std::uint32_t index);
  Result<> erase_frontends(const std::vector<Frontend>& frontends, std::uint32_t index);
  bool owns_address(const IpAddress& address) const;
  // Notes whose addresses the entry's are, and says so in the maps.
  Result<> settle_sharing(const ServiceEntry& entry);
  // Takes the service out of the maps.
  Result<> drop(std::uint32_t index);
  // Says of backend elements that nobody can choose any more what they are from now on, and tells that there are such.
  void retire(Family family, Protocol protocol, std::span<const std::uint32_t> ids, backend_state state);

  ServiceMaps maps_;
  std::map<std::uint32_t, LiveService> services_;  // by index
  std::map<std::string, std::uint32_t> names_;
  std::set<std::uint32_t> unclaimed_;
  std::map<Frontend, std::uint32_t> owners_;  // every frontend in the maps, and where it leads; by address first
  // Addresses of frontends that are not Services' as a whole. Those that an earlier agent shared are told by having
  // frontends and no element of their own.
  std::set<IpAddress> shared_;
  std::uint32_t next_tag_;
  ServiceIds ids_;
  Sender<BackendsGone> gone_;
};

}  // namespace fairlead::datapath
