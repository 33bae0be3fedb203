// SPDX-License-Identifier: Apache-2.0
// Conntrack: the connections of pods that the packet path tracks, as the agent sees them (docs/packet-path.md).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/config/conntrack_settings.h"

namespace fairlead::datapath {

class BpfPodPrograms;

// One connection, copied. Its first packet went client → server and left as from → to, which differ where it was
// translated. ICMP queries have their identifier as both ports.
struct Connection {
  Family family = Family::kV4;
  std::uint8_t protocol = 0;  // IPPROTO_*
  std::string_view state;     // bpf/abi/conntrack.h: "ESTABLISHED"
  bool answered = false;
  bool translated = false;
  SocketAddress client, server, from, to;
  std::chrono::seconds age{0};
  std::chrono::seconds expires_in{0};
  std::uint32_t slot = 0;  // where it is …
  std::uint32_t tag = 0;   // … and that it is this one
};

struct ConntrackUsage {
  struct Table {
    std::uint64_t used = 0;       // connections now
    std::uint64_t unreplied = 0;  // of them
    std::uint64_t capacity = 0;
  };
  Table v4, v6;
  std::map<std::string, std::uint64_t> counters;  // by name (CT_COUNTERS), since the maps were made
  std::chrono::seconds last_sweep{0};             // since the shard that was swept longest ago
};

// Where a walk over connections goes on.
using ConntrackCursor = std::uint64_t;

// Owner: main; thread: one loop. Connections are in memory that BPF programs share, so reading them costs the data path
// nothing: about 10 ns a slot that was ever used. Nothing is cached.
class Conntrack {
 public:
  // Over the maps of `programs`, which live longer.
  static Result<std::unique_ptr<Conntrack>> open(const BpfPodPrograms& programs);
  ~Conntrack();

  // Puts the time-outs in force; what there is keeps its deadline until its next packet. A time of 0 is the default.
  Result<> configure(const config::ConntrackSettings& settings);

  // Calls `visit` for connections from `begin` (0: the first) on, until it returns false. The cursor to go on at, or
  // nothing at the end. What changes meanwhile may be seen or not; what is seen is whole.
  Result<std::optional<ConntrackCursor>> walk(ConntrackCursor begin,
                                              const std::function<bool(const Connection&)>& visit) const;
  // Ends it: from here on it is absent; the next sweep frees its slot. False: it has ended, or is another by now.
  bool end(const Connection& connection);

  Result<ConntrackUsage> usage() const;

 private:
  struct Maps;
  explicit Conntrack(std::unique_ptr<Maps> maps);
  std::unique_ptr<Maps> maps_;
};

}  // namespace fairlead::datapath
