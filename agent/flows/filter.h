// SPDX-License-Identifier: Apache-2.0
// Filter: which connections and drops somebody wants to see, or to end. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "agent/base/ip.h"
#include "agent/base/local_protocol.h"
#include "agent/datapath/conntrack.h"
#include "agent/datapath/drop_events.h"
#include "agent/flows/names.h"

namespace fairlead::flows {

// All that is given must hold. "Of any end": client, server, from, to; of a drop: source, destination.
struct Filter {
  std::optional<Family> family;
  std::optional<std::string> protocol;  // as protocol_name() says it
  std::optional<Cidr> address;          // of any end
  std::optional<std::uint16_t> port;    // of any end
  std::optional<std::string> state;
  std::optional<std::string> pod;      // "namespace/name", of any end or of the device
  std::optional<std::string> service;  // "namespace/name", whose frontend was named
  std::optional<std::string> reason;   // of a drop: no connection has one, and no drop a state
  std::optional<std::string> kind;     // "drop" or "flow"

  bool matches(const datapath::Connection& connection, const Names& names) const;
  bool matches(const datapath::Drop& drop, const Names& names) const;
};

// Out of arguments {family: 4 or 6, protocol, address, port, state, pod, service, reason, kind}, all texts and all
// optional. kInvalid names the argument.
Result<Filter> parse_filter(const Json& args);

}  // namespace fairlead::flows
