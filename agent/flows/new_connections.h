// SPDX-License-Identifier: Apache-2.0
// NewConnections: which connections began since somebody looked last.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "agent/base/result.h"
#include "agent/datapath/conntrack.h"

namespace fairlead::flows {

// A connection stays in its slot for seconds after its end, so whoever looks more often sees each of them, and the data
// path does nothing for it. Owner: the domain. Cost of a look: 10 ns a slot that was ever used, 4 bytes a slot.
class NewConnections {
 public:
  explicit NewConnections(const datapath::Conntrack& table) : table_(table) {}

  // Visits those that were not there at the last look; at the first one, and the first after forget(), none.
  Result<> look(const std::function<void(const datapath::Connection&)>& visit);
  void forget();

 private:
  const datapath::Conntrack& table_;
  bool looked_ = false;
  std::array<std::vector<std::uint32_t>, 2> known_;  // of each family, by slot: the use of it that was seen last
};

}  // namespace fairlead::flows
