// SPDX-License-Identifier: Apache-2.0
// NodePorts: which ports of this node are Services', so that no pod takes them.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "agent/base/loop.h"
#include "agent/model/rows.h"
#include "agent/state/table.h"

namespace fairlead::network {

// Owner: Network; thread: its loop's. Cost: an element for each NodePort.
class NodePorts {
 public:
  explicit NodePorts(state::TableReader<model::Service> services) : services_(std::move(services)) {}

  // Begins to follow the table. On the loop's thread, or before it runs.
  void start(Loop& loop) {
    services_.attach(loop, [this](const state::Delta<model::Service>& delta) { services_changed(delta); });
  }

  // "namespace/service", or empty.
  std::string owner(std::uint16_t port, Protocol protocol) const {
    const auto at = owners_.find({port, protocol});
    return at == owners_.end() ? "" : *at->second.begin();
  }

 private:
  void services_changed(const state::Delta<model::Service>& delta) {
    for (const auto& change : delta.changes) {
      if (change.before) count(change.key, *change.before, false);
      if (change.after) count(change.key, *change.after, true);
    }
  }

  void count(const std::string& service, const model::Service& row, bool there) {
    for (const model::ServicePort& port : row.ports) {
      if (port.node_port == 0) continue;
      const std::pair key(port.node_port, port.protocol);
      if (there) {
        owners_[key].insert(service);
      } else if (const auto at = owners_.find(key); at != owners_.end()) {
        at->second.erase(service);
        if (at->second.empty()) owners_.erase(at);
      }
    }
  }

  state::TableReader<model::Service> services_;
  std::map<std::pair<std::uint16_t, Protocol>, std::set<std::string>> owners_;
};

}  // namespace fairlead::network
