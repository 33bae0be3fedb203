// SPDX-License-Identifier: Apache-2.0
// ServiceMaps: the maps of Services as the agent reads and writes them, element by element.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/datapath/allocators.h"
#include "agent/datapath/load_balancer.h"
#include "agent/datapath/map.h"
#include "agent/datapath/mapped_array.h"
#include "agent/datapath/sock_programs.h"
#include "bpf/abi/service.h"

namespace fairlead::datapath {

// A backend element as it stands in its array.
struct BackendRecord {
  Backend backend;
  backend_state state = BACKEND_GONE;
  std::uint32_t service = 0;
  std::uint32_t generation = 0;
};

// What a service's element says.
struct ServiceRecord {
  std::uint32_t base = 0;
  std::uint32_t count = 0;
  std::uint32_t tag = 0;
  std::uint32_t affinity_timeout_s = 0;
  Balancing balancing = Balancing::kRandom;
  bool operator==(const ServiceRecord&) const = default;
};

// Owner: BpfLoadBalancer; same thread. Holds the order in which a reader may see stores, and nothing else: which
// element is whose is the owner's to know. Cost: arrays are plain memory; a frontend is a system call.
class ServiceMaps {
 public:
  static Result<ServiceMaps> open(const SockPrograms& programs);

  // Frontends lead to an element of `services`; the one that a service is at home for stands in its element, too.
  Result<> put_frontend(const Frontend& frontend, std::uint32_t service);
  Result<> erase_frontend(const Frontend& frontend);
  // Says that the address is some service's.
  Result<> put_address(const IpAddress& address) { return put_frontend(any_port(address), 0); }
  Result<> erase_address(const IpAddress& address) { return erase_frontend(any_port(address)); }
  // `visit(frontend, service)` for all, of both families. A value that is not its key's own shows as service 0, and so
  // does what put_address() put, with port 0.
  Result<> for_each_frontend(const std::function<void(const Frontend&, std::uint32_t)>& visit) const;

  // The element that a new service at `frontend` is to have; 0: any.
  std::uint32_t home_of(const Frontend& frontend) const;
  // Takes frontends out of elements that they do not lead to, as `leads(frontend, service)` knows. Reads all elements.
  void settle_homes(const std::function<bool(const Frontend&, std::uint32_t)>& leads);

  ServiceRecord service(std::uint32_t index) const;
  // Gives a free element a tag; its set is empty until it is published, and nobody is at home there.
  void start_service(std::uint32_t index, std::uint32_t tag);
  // The one store by which every later connection sees the run that was written.
  void publish(std::uint32_t index, std::uint32_t base, std::uint32_t count, std::uint32_t affinity_timeout_s,
               Balancing balancing);
  void free_service(std::uint32_t index);

  // Writes service `index`'s next run, which is at `base`: in `runs` with the service's tag, or in its own element.
  void write_run(std::uint32_t index, std::uint32_t base, std::span<const std::uint32_t> backends);
  // The backends of the run that service `index` says; nothing where that is not all its own, or outside of the maps.
  std::optional<std::vector<std::uint32_t>> run(std::uint32_t index) const;
  // The largest tag that was ever given to an element of `runs`.
  std::uint32_t largest_tag() const;

  BackendRecord backend(Family family, std::uint32_t id) const;
  // Writes a free element as a new generation of it, valid for `service`, with nothing counted.
  void write_backend(std::uint32_t id, const Backend& backend, std::uint32_t service, std::uint32_t weight);
  // BACKEND_GONE: from here on nothing remembered of it is believed; who reads a run still finds the address.
  void set_state(Family family, std::uint32_t id, backend_state state);

  // What is counted of a backend. Of another generation than the backend's: an agent without counters wrote that.
  const backend_use& use(Family family, std::uint32_t id) const { return uses(family)[id]; }
  void set_weight(Family family, std::uint32_t id, std::uint32_t weight) { store(uses(family)[id].weight, weight); }
  // Begins to count for the backend as it stands.
  void start_use(Family family, std::uint32_t id, std::uint32_t weight);
  // Counts a connection as closed that the backend had in this generation.
  void connection_closed(Family family, std::uint32_t id, std::uint32_t generation);
  std::uint64_t service_hits(std::uint32_t index) const { return services_[index].hits; }

  // Gives mapped memory back where it has become much. Whatever refers to an element ends.
  void unmap_much();

  std::uint32_t frontend_capacity() const { return svc4_.capacity(); }
  std::uint32_t service_capacity() const { return services_.size(); }
  std::uint32_t run_capacity() const { return runs_.size(); }
  std::uint32_t backend_capacity() const { return backends4_.size(); }

 private:
  ServiceMaps(Map<frontend_v4, frontend> svc4, Map<frontend_v6, frontend> svc6, MappedArray<::service> services,
              MappedArray<run_slot> runs, MappedArray<backend_v4> backends4, MappedArray<backend_v6> backends6,
              MappedArray<backend_use> use4, MappedArray<backend_use> use6)
      : svc4_(std::move(svc4)),
        svc6_(std::move(svc6)),
        services_(std::move(services)),
        runs_(std::move(runs)),
        backends4_(std::move(backends4)),
        backends6_(std::move(backends6)),
        use4_(std::move(use4)),
        use6_(std::move(use6)) {}
  static Frontend any_port(const IpAddress& address) { return {address, 0, Protocol{}}; }
  // Says in the frontend's home whether it leads there.
  void settle_home(const Frontend& frontend, std::uint32_t service);
  MappedArray<backend_use>& uses(Family family) { return family == Family::kV4 ? use4_ : use6_; }
  const MappedArray<backend_use>& uses(Family family) const { return family == Family::kV4 ? use4_ : use6_; }

  Map<frontend_v4, frontend> svc4_;
  Map<frontend_v6, frontend> svc6_;
  MappedArray<::service> services_;
  MappedArray<run_slot> runs_;
  MappedArray<backend_v4> backends4_;
  MappedArray<backend_v6> backends6_;
  MappedArray<backend_use> use4_;
  MappedArray<backend_use> use6_;
};

}  // namespace fairlead::datapath
