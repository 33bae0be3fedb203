// SPDX-License-Identifier: Apache-2.0
// ServiceIds: which elements of the Service maps are free, in use, or waiting out a grace period.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/datapath/allocators.h"
#include "agent/datapath/grace_period.h"

namespace fairlead::datapath {

// Elements that belong together: what a change takes, and what it gives back.
struct Elements {
  std::uint32_t service = 0;  // 0: none
  Family family = Family::kV4;
  std::vector<std::uint32_t> backends;
  std::vector<std::uint32_t> draining = {};
  std::uint32_t base = 0;
  std::uint32_t count = 0;
};

// Owner: BpfLoadBalancer; same thread. A retired element is free again once no program can hold it; the wait happens on
// the grace period's thread, and here only where nothing else is left.
class ServiceIds {
 public:
  // Elements in use, as found in the maps; `runs` has them reserved.
  struct Used {
    std::vector<std::uint32_t> services;                 // ascending
    std::array<std::vector<std::uint32_t>, 2> backends;  // by family_slot(), ascending
  };
  ServiceIds(std::unique_ptr<GracePeriod> grace, std::uint32_t services, std::uint32_t backends, RunAllocator runs,
             const Used& used);

  // A service of `family`: the element `home` (0: any) or one near it. kExhausted names the map.
  Result<Elements> take_service(std::uint32_t home, Family family);
  // `backends` backends of `family`, and a run of `count` in `runs`; all or nothing. kExhausted names the map.
  Result<Elements> take(Family family, std::size_t backends, std::uint32_t count);
  // What nobody has seen: free at once.
  void put(const Elements& elements);
  // What programs in flight may hold.
  void retire(Elements elements);

  static std::size_t family_slot(Family family) { return family == Family::kV4 ? 0 : 1; }

 private:
  struct Retired {
    std::uint64_t ticket;
    Elements elements;
  };
  // Frees what has waited long enough.
  void reclaim();
  // `take()`, waiting for retired elements as long as there are any.
  template <class Take>
  std::optional<std::uint32_t> take_waiting(Take take);

  std::unique_ptr<GracePeriod> grace_;
  IdAllocator services_;
  std::array<IdAllocator, 2> backends_;
  RunAllocator runs_;
  std::deque<Retired> retired_;  // oldest first
};

}  // namespace fairlead::datapath
