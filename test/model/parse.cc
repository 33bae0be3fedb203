// SPDX-License-Identifier: Apache-2.0
#include "test/model/parse.h"

#include <algorithm>
#include <chrono>

namespace fairlead::model {
namespace {

using namespace std::chrono_literals;

constexpr Time kFragmentTime = 10s;

Kind kind_of(const IpHeaders& ip) {
  switch (ip.protocol) {
    case 6:
      return Kind::kTcp;
    case 17:
      return Kind::kUdp;
    case 132:
      return Kind::kSctp;
    case 1:
      return ip.family == Family::kV4 ? Kind::kQuery : Kind::kOther;
    case 58:
      return ip.family == Family::kV6 ? Kind::kQuery : Kind::kOther;
    default:
      return Kind::kOther;
  }
}

std::size_t least_header(Kind kind) {
  switch (kind) {
    case Kind::kTcp:
      return 20;
    case Kind::kUdp:
    case Kind::kQuery:
      return 8;
    case Kind::kSctp:
      return 16;
    case Kind::kOther:
      return 0;
  }
  return 0;
}

template <std::size_t N>
bool among(std::uint8_t type, const std::uint8_t (&types)[N]) {
  return std::ranges::find(types, type) != std::end(types);
}

enum class Icmp { kQuery, kReply, kError, kUntracked };

Icmp icmp_of(Family family, std::uint8_t type) {
  if (family == Family::kV4) {
    if (among(type, {8, 13, 15, 17})) return Icmp::kQuery;
    if (among(type, {0, 14, 16, 18})) return Icmp::kReply;
    return among(type, {3, 4, 5, 11, 12}) ? Icmp::kError : Icmp::kUntracked;
  }
  if (type < 128) return Icmp::kError;
  return type == 128 ? Icmp::kQuery : type == 129 ? Icmp::kReply : Icmp::kUntracked;
}

Signal tcp_signal(std::uint8_t flags) {
  using namespace testkit::tcp_flags;
  if ((flags & kRst) != 0) return Signal::kRst;
  if ((flags & kSyn) != 0) return (flags & kAck) != 0 ? Signal::kSynAck : Signal::kSyn;
  if ((flags & kFin) != 0) return Signal::kFin;
  return (flags & kAck) != 0 ? Signal::kAck : Signal::kNone;
}

Signal sctp_signal(std::uint8_t chunk) {
  switch (chunk) {
    case 1:
      return Signal::kInit;
    case 6:
      return Signal::kAbort;
    case 7:
    case 8:
      return Signal::kShutdown;
    case 10:
      return Signal::kCookieEcho;
    case 11:
      return Signal::kCookieAck;
    case 14:
      return Signal::kShutdownComplete;
    default:
      return Signal::kNone;
  }
}

Tuple tuple_of(const IpHeaders& ip, std::uint16_t source, std::uint16_t destination) {
  return {{ip.source, source}, {ip.destination, destination}, ip.protocol};
}

// The ports as a header has them that starts at `at`.
std::pair<std::uint16_t, std::uint16_t> ports_at(const Bytes& bytes, std::size_t at, Kind kind) {
  if (kind == Kind::kOther) return {0, 0};
  if (kind == Kind::kQuery) return {get16(bytes, at + 4), get16(bytes, at + 4)};
  return {get16(bytes, at), get16(bytes, at + 2)};
}

}  // namespace

void Fragments::remember(const IpHeaders& ip, std::uint16_t source, std::uint16_t destination, Time now) {
  seen_[{ip.source, ip.destination, ip.fragment->id, ip.protocol}] = {source, destination, now};
}

std::optional<Fragments::Ports> Fragments::recall(const IpHeaders& ip, Time now) const {
  const auto at = seen_.find({ip.source, ip.destination, ip.fragment->id, ip.protocol});
  if (at == seen_.end() || now - at->second.seen >= kFragmentTime) return std::nullopt;
  return at->second;
}

bool Fragments::is_clear(Time now, Time margin) const {
  return std::ranges::none_of(seen_, [&](const auto& each) {
    const Time until = each.second.seen + kFragmentTime;
    return until >= now - margin && until <= now + margin;
  });
}

std::expected<Packet, std::string> parse(const Bytes& frame, const IpHeaders& ip, Fragments& fragments, Time now) {
  Packet packet{.ip = ip, .kind = kind_of(ip), .tuple = {}};
  if (ip.fragment && ip.fragment->offset != 0) {
    const auto ports = fragments.recall(ip, now);
    if (!ports) return std::unexpected("fragment");
    packet.later_fragment = true;
    packet.tuple = tuple_of(ip, ports->source, ports->destination);
    return packet;
  }
  const std::size_t at = ip.transport;
  if (frame.size() < at + least_header(packet.kind)) return std::unexpected("malformed");
  const bool first_fragment = ip.fragment && ip.fragment->more;
  if (packet.kind == Kind::kQuery) {
    switch (icmp_of(ip.family, frame[at])) {
      case Icmp::kQuery:
        break;
      case Icmp::kReply:
        packet.query_reply = true;
        break;
      case Icmp::kError:
        if (first_fragment) return std::unexpected("icmp_error");
        packet.icmp_error = true;
        return packet;
      case Icmp::kUntracked:
        packet.untracked = true;
        return packet;
    }
  }
  if (packet.kind == Kind::kTcp) packet.signal = tcp_signal(frame[at + 13]);
  if (packet.kind == Kind::kSctp) packet.signal = sctp_signal(frame[at + 12]);
  const auto [source, destination] = ports_at(frame, at, packet.kind);
  packet.tuple = tuple_of(ip, source, destination);
  if (first_fragment) fragments.remember(ip, source, destination, now);
  return packet;
}

std::optional<Packet> parse_inner(const Bytes& frame, std::size_t at, Family family) {
  const auto ip = ip_headers(frame, at, family);
  if (!ip || (ip->fragment && ip->fragment->offset != 0)) return std::nullopt;
  Packet packet{.ip = *ip, .kind = kind_of(*ip), .tuple = {}};
  if (packet.kind != Kind::kOther && frame.size() < ip->transport + 8) return std::nullopt;
  if (packet.kind == Kind::kQuery) {
    const Icmp icmp = icmp_of(family, frame[ip->transport]);
    if (icmp == Icmp::kError || icmp == Icmp::kUntracked) return std::nullopt;
  }
  const auto [source, destination] = ports_at(frame, ip->transport, packet.kind);
  packet.tuple = tuple_of(*ip, source, destination);
  return packet;
}

}  // namespace fairlead::model
