// SPDX-License-Identifier: Apache-2.0
// PodMtu: how large pods' packets may be, as uplinks and tunnel let them be now.
#pragma once

#include <cstdint>

namespace fairlead::model {

// From the routing domain to the network domain, which makes pods' devices; the latest counts.
struct PodMtu {
  std::uint32_t bytes = 0;  // of an IP packet
  using Key = int;
  Key key() const { return 0; }
};

}  // namespace fairlead::model
