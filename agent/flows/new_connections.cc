// SPDX-License-Identifier: Apache-2.0
#include "agent/flows/new_connections.h"

#include <utility>

#include "bpf/abi/conntrack.h"

namespace fairlead::flows {

Result<> NewConnections::look(const std::function<void(const datapath::Connection&)>& visit) {
  const bool first = !std::exchange(looked_, true);
  FL_TRY(table_.walk(0, [&](const datapath::Connection& connection) {
    auto& known = known_[connection.family == Family::kV4 ? 0 : 1];
    if (known.size() <= connection.slot) known.resize(connection.slot + 1, 0);
    const std::uint32_t use = (connection.tag >> CT_LIFE_BITS) + 1;
    if (std::exchange(known[connection.slot], use) != use && !first) visit(connection);
    return true;
  }));
  return {};
}

void NewConnections::forget() {
  looked_ = false;
  known_ = {};
}

}  // namespace fairlead::flows
