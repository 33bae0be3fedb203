// SPDX-License-Identifier: Apache-2.0
// What the packet path reads of an IP packet: its tuple, and what it is to a connection.
#pragma once

#include <string>

#include "test/model/connections.h"
#include "test/model/headers.h"

namespace fairlead::model {

struct Packet {
  IpHeaders ip;
  Kind kind = Kind::kOther;
  Tuple tuple;
  Signal signal = Signal::kNone;
  bool untracked = false;
  bool icmp_error = false;
  bool query_reply = false;     // answers an ICMP query
  bool later_fragment = false;  // has no transport header
};

// Whether there is a transport header that a translation changes.
inline bool has_ports(const Packet& packet) {
  return !packet.later_fragment &&
         (packet.kind == Kind::kTcp || packet.kind == Kind::kUdp || packet.kind == Kind::kSctp);
}

// The ports that first fragments left, for those that follow.
class Fragments {
 public:
  struct Ports {
    std::uint16_t source = 0;
    std::uint16_t destination = 0;
    Time seen{0};
  };
  void remember(const IpHeaders& ip, std::uint16_t source, std::uint16_t destination, Time now);
  std::optional<Ports> recall(const IpHeaders& ip, Time now) const;
  bool is_clear(Time now, Time margin) const;

 private:
  using Key = std::tuple<IpAddress, IpAddress, std::uint32_t, std::uint8_t>;
  std::map<Key, Ports> seen_;
};

// `frame`'s packet, whose IP headers are `ip`; or the reason for which it is dropped.
std::expected<Packet, std::string> parse(const Bytes& frame, const IpHeaders& ip, Fragments& fragments, Time now);

// The packet within an ICMP error, which starts at `at`; nothing where no connection can be found by it.
std::optional<Packet> parse_inner(const Bytes& frame, std::size_t at, Family family);

}  // namespace fairlead::model
