// SPDX-License-Identifier: Apache-2.0
#include "test/model/rewrite.h"

#include <algorithm>
#include <span>

namespace fairlead::model {
namespace {

constexpr std::size_t kNoChecksum = ~std::size_t{0};
constexpr std::size_t kMostExtensions = 64;  // bytes of them that an answer quotes

// A checksum in the frame and what is to become of it. RFC 1624, eqn. 3: what is wrong stays as wrong.
class Checksum {
 public:
  Checksum(Bytes& frame, std::size_t at) : frame_(frame), at_(at) {
    if (at_ != kNoChecksum) sum_ = static_cast<std::uint16_t>(~get16(frame, at_));
  }
  void replace(std::uint16_t before, std::uint16_t after) {
    sum_ += static_cast<std::uint16_t>(~before);
    sum_ += after;
    sum_ = (sum_ & 0xffff) + (sum_ >> 16);
  }
  void replace(std::span<const std::uint8_t> before, std::span<const std::uint8_t> after) {
    for (std::size_t i = 0; i + 1 < before.size(); i += 2) {
      replace(static_cast<std::uint16_t>(before[i] << 8 | before[i + 1]),
              static_cast<std::uint16_t>(after[i] << 8 | after[i + 1]));
    }
  }
  // `zero_is_none`: 0 says that there is no checksum, so that it is written as 0xffff.
  void store(bool zero_is_none = false) {
    if (at_ == kNoChecksum) return;
    while (sum_ >> 16 != 0) sum_ = (sum_ & 0xffff) + (sum_ >> 16);
    std::uint16_t out = static_cast<std::uint16_t>(~sum_);
    if (zero_is_none && out == 0) out = 0xffff;
    testkit::set16(frame_, at_, out);
  }

 private:
  Bytes& frame_;
  std::size_t at_;
  std::uint32_t sum_ = 0;
};

std::size_t source_at(const IpHeaders& ip) {
  return ip.ip + (ip.family == Family::kV4 ? 12 : 8);
}
std::size_t destination_at(const IpHeaders& ip) {
  return ip.ip + (ip.family == Family::kV4 ? 16 : 24);
}

void set_address(Bytes& frame, std::size_t at, const IpAddress& address) {
  std::ranges::copy(address.bytes(), frame.begin() + static_cast<std::ptrdiff_t>(at));
}

// Both addresses, in the header and its checksum, and in a transport checksum that covers them.
void set_addresses(Bytes& frame, const IpHeaders& ip, const IpAddress& source, const IpAddress& destination,
                   Checksum& transport) {
  Checksum header(frame, ip.family == Family::kV4 ? ip.ip + 10 : kNoChecksum);
  for (Checksum* sum : {&header, &transport}) {
    sum->replace(ip.source.bytes(), source.bytes());
    sum->replace(ip.destination.bytes(), destination.bytes());
  }
  header.store();
  set_address(frame, source_at(ip), source);
  set_address(frame, destination_at(ip), destination);
}

// How long the IP packet says that it is, from its header on; its frame may be shorter or longer.
std::size_t length_of(const Bytes& frame, const IpHeaders& ip) {
  return ip.family == Family::kV4 ? get16(frame, ip.ip + 2) : 40U + get16(frame, ip.ip + 4);
}

// The CRC is linear: its change depends on what changed, and how far from the end. What is not in the frame did not.
void correct_crc(Bytes& frame, const IpHeaders& ip, const Bytes& before) {
  const std::size_t at = ip.transport;
  if (frame.size() < at + 12) return;
  // Behind the ports, as 16 bits tell it where the header makes no sense.
  const auto behind = static_cast<std::uint16_t>(ip.ip + length_of(frame, ip) - at - 4);
  const auto crc = [&](const Bytes& of) {
    Bytes bytes(of.begin() + static_cast<std::ptrdiff_t>(at), of.end());
    bytes.resize(4U + behind);
    for (std::size_t i = 8; i < 12 && i < bytes.size(); ++i) bytes[i] = 0;
    return testkit::crc32c(bytes);
  };
  const std::uint32_t sum = get32(frame, at + 8) ^ crc(before) ^ crc(frame);
  testkit::set16(frame, at + 8, static_cast<std::uint16_t>(sum >> 16));
  testkit::set16(frame, at + 10, static_cast<std::uint16_t>(sum));
}

std::size_t checksum_at(const Bytes& frame, const Packet& packet) {
  std::size_t at = kNoChecksum;
  if (packet.later_fragment) return at;
  if (packet.kind == Kind::kTcp) at = packet.ip.transport + 16;
  if (packet.kind == Kind::kUdp) at = packet.ip.transport + 6;
  const std::size_t header = packet.kind == Kind::kTcp ? 20 : 8;
  if (at == kNoChecksum || frame.size() < packet.ip.transport + header) return kNoChecksum;
  const bool none = packet.kind == Kind::kUdp && get16(frame, at) == 0;
  return none ? kNoChecksum : at;
}

}  // namespace

namespace {

// All but the CRC of SCTP, which cannot be known where the packet is cut.
void translate_header(Bytes& frame, const Packet& packet, const End& source, const End& destination) {
  const std::size_t at = packet.ip.transport;
  Checksum sum(frame, checksum_at(frame, packet));
  set_addresses(frame, packet.ip, source.address, destination.address, sum);
  if (has_ports(packet)) {
    sum.replace(get16(frame, at), source.port);
    sum.replace(get16(frame, at + 2), destination.port);
    testkit::set16(frame, at, source.port);
    testkit::set16(frame, at + 2, destination.port);
  }
  sum.store(packet.kind == Kind::kUdp);
}

}  // namespace

bool translate(Bytes& frame, const Packet& packet, const End& source, const End& destination) {
  const Bytes before = frame;
  translate_header(frame, packet, source, destination);
  if (packet.kind != Kind::kSctp || packet.later_fragment) return true;
  if (get32(before, packet.ip.transport) == get32(frame, packet.ip.transport)) return true;
  if (packet.ip.fragment && packet.ip.fragment->more) return false;
  correct_crc(frame, packet.ip, before);
  return true;
}

void translate_inner(Bytes& frame, const Packet& outer, const Packet& inner, const End& source,
                     const End& destination) {
  const Bytes before = frame;
  translate_header(frame, inner, source, destination);
  Checksum icmp(frame, outer.ip.transport + 2);
  const auto from = static_cast<std::ptrdiff_t>(outer.ip.transport + 4);
  // As if the rest ended on an even byte: what changed is in whole words.
  icmp.replace(std::span(before).subspan(static_cast<std::size_t>(from)),
               std::span(frame).subspan(static_cast<std::size_t>(from)));
  icmp.store();
}

void translate_error(Bytes& frame, const Packet& outer, const IpAddress& source, const IpAddress& destination) {
  const bool v6 = outer.ip.family == Family::kV6;
  Checksum icmp(frame, v6 ? outer.ip.transport + 2 : kNoChecksum);
  set_addresses(frame, outer.ip, source, destination, icmp);
  icmp.store();
}

void route(Bytes& frame, const IpHeaders& ip, const Mac& to, const Mac& from) {
  if (ip.family == Family::kV4) {
    Checksum header(frame, ip.ip + 10);
    const std::uint16_t before = get16(frame, ip.ip + 8);
    --frame[ip.ip + 8];
    header.replace(before, get16(frame, ip.ip + 8));
    header.store();
  } else {
    --frame[ip.ip + 7];
  }
  std::ranges::copy(to, frame.begin());
  std::ranges::copy(from, frame.begin() + 6);
}

namespace {

testkit::Transport reset(const Bytes& frame, const Packet& packet) {
  using namespace testkit::tcp_flags;
  const std::size_t at = packet.ip.transport;
  const std::uint8_t flags = frame[at + 13];
  const std::size_t end = packet.ip.ip + length_of(frame, packet.ip);
  const std::size_t size = end > at ? end - at : 0;
  const std::size_t header = (frame[at + 12] >> 4) * 4U;
  const auto length = static_cast<std::uint32_t>((size > header ? size - header : 0) + ((flags & kSyn) != 0 ? 1 : 0) +
                                                 ((flags & kFin) != 0 ? 1 : 0));
  const bool acknowledges = (flags & kAck) != 0;
  testkit::Transport out =
      testkit::tcp(get16(frame, at + 2), get16(frame, at), acknowledges ? kRst : kRst | kAck, {},
                   acknowledges ? get32(frame, at + 8) : 0, acknowledges ? 0 : get32(frame, at + 4) + length);
  testkit::set16(out.bytes, 14, 0);  // no window
  return out;
}

}  // namespace

std::optional<Bytes> answer(const Bytes& frame, const Packet& packet) {
  const std::size_t at = packet.ip.transport;
  if (packet.later_fragment || frame.size() < at + 8) return std::nullopt;
  const bool v4 = packet.ip.family == Family::kV4;
  const std::size_t header = at - packet.ip.ip;
  testkit::Transport out;
  if (packet.kind == Kind::kTcp) {
    if (packet.signal == Signal::kRst) return std::nullopt;
    out = reset(frame, packet);
  } else {
    if (!v4 && header > 40 + kMostExtensions) return std::nullopt;
    const auto begin = frame.begin() + static_cast<std::ptrdiff_t>(packet.ip.ip);
    const Bytes quoted(begin, begin + static_cast<std::ptrdiff_t>(header + 8));
    out = v4 ? testkit::icmp(3, 3, testkit::error_rest(quoted)) : testkit::icmp6(1, 4, testkit::error_rest(quoted));
  }
  testkit::Ethernet back{};
  std::copy_n(frame.begin() + 6, 6, back.destination.begin());
  std::copy_n(frame.begin(), 6, back.source.begin());
  return testkit::frame(back, {packet.ip.destination, packet.ip.source}, out);
}

}  // namespace fairlead::model
