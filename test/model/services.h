// SPDX-License-Identifier: Apache-2.0
// Services: which backends a packet to a Service may go to.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/datapath/load_balancer.h"
#include "test/model/connections.h"

namespace fairlead::model {

// A backend that a connection may get, and what the choice makes of the client's affinity.
struct Choice {
  End end;
  BackendLife life;
};

// Owner and thread: the model.
class Services {
 public:
  void apply(const std::string& name, const datapath::ServiceEntry& entry);
  void remove(const std::string& name);

  // The name of the Service with this frontend, if there is one.
  std::optional<std::string> find(const End& destination, std::uint8_t protocol) const;
  bool has_address(const IpAddress& address) const;
  bool has_backends(const std::string& name) const { return !services_.at(name).entry.backends.empty(); }

  // Each backend that may be chosen for a connection of this client: all, or the one that it keeps.
  std::vector<Choice> choices(const std::string& name, const IpAddress& client, Time now) const;
  // One of them was.
  void chosen(const Choice& choice, const IpAddress& client, Time now);
  // Whether a connection to this backend may not go on; those of `kind` UDP end where it drains, too.
  bool is_gone(const BackendLife& life, Kind kind) const;

  // As Connections::is_clear().
  bool is_clear(Time now, Time margin) const;

 private:
  struct Service {
    datapath::ServiceEntry entry;
    std::map<datapath::Backend, std::uint64_t> lives;  // each since it came, draining or not
  };
  struct Kept {
    std::uint64_t life = 0;
    Time seen{0};
    Time until{0};
  };
  std::map<std::string, Service> services_;
  std::map<std::pair<IpAddress, std::string>, Kept> kept_;  // by client and Service
  std::uint64_t next_life_ = 1;
};

}  // namespace fairlead::model
