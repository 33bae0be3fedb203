// SPDX-License-Identifier: Apache-2.0
// Packets as values: headers that a test names field by field, and the bytes that they make, with lengths and
// checksums.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/mac.h"

namespace fairlead::testkit {

using Bytes = std::vector<std::uint8_t>;

// Everything in host order. A packet is a value: copy it, change a field, make bytes of it, compare.
struct Ethernet {
  Mac destination{};
  Mac source{};
};

// Which part of a packet this is; IPv4 says it in the header, IPv6 in an extension header.
struct Fragment {
  std::uint32_t id = 0;
  std::uint16_t offset = 0;  // in units of 8 bytes
  bool more = false;
};

// An IPv6 extension header other than the fragment header; `body` follows next header and length, 8n + 6 bytes.
struct Extension {
  std::uint8_t type = 0;
  Bytes body = Bytes(6, 0);
};

struct Ip {
  IpAddress source;
  IpAddress destination;
  std::uint8_t ttl = 64;                   // or hop limit
  std::optional<Fragment> fragment = {};   // last of the extension headers
  Bytes options = {};                      // IPv4; a multiple of 4 bytes, at most 40
  std::vector<Extension> extensions = {};  // IPv6
};

inline void put16(Bytes& out, std::uint16_t value) {
  out.push_back(static_cast<std::uint8_t>(value >> 8));
  out.push_back(static_cast<std::uint8_t>(value));
}

inline void put32(Bytes& out, std::uint32_t value) {
  put16(out, static_cast<std::uint16_t>(value >> 16));
  put16(out, static_cast<std::uint16_t>(value));
}

template <class Range>
void put(Bytes& out, const Range& bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// RFC 1071, over `bytes` and whatever `sum` holds already; complemented.
inline std::uint16_t checksum(const Bytes& bytes, std::uint32_t sum = 0) {
  for (std::size_t i = 0; i < bytes.size(); ++i) sum += i % 2 == 0 ? bytes[i] << 8 : bytes[i];
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

inline void set16(Bytes& bytes, std::size_t at, std::uint16_t value) {
  bytes[at] = static_cast<std::uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<std::uint8_t>(value);
}

// CRC-32C as SCTP has it, in the order in which it goes on the wire when stored by put32().
inline std::uint32_t crc32c(const Bytes& bytes) {
  std::uint32_t crc = ~0U;
  for (const std::uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78U : 0);
  }
  return __builtin_bswap32(~crc);
}

// Transport header and payload; `checksum_at` says where its checksum goes, kNone where it has none.
struct Transport {
  static constexpr std::size_t kNone = ~std::size_t{0};
  std::uint8_t protocol = 0;
  Bytes bytes;
  std::size_t checksum_at = kNone;
  bool pseudo_header = true;
};

inline Transport udp(std::uint16_t source, std::uint16_t destination, const std::string& payload = "hello") {
  Transport out{17, {}, 6};
  put16(out.bytes, source);
  put16(out.bytes, destination);
  put16(out.bytes, static_cast<std::uint16_t>(8 + payload.size()));
  put16(out.bytes, 0);
  put(out.bytes, payload);
  return out;
}

// Its sender left the checksum out, as IPv4 allows.
inline Transport udp_unsummed(std::uint16_t source, std::uint16_t destination, const std::string& payload = "hello") {
  Transport out = udp(source, destination, payload);
  out.checksum_at = Transport::kNone;
  return out;
}

namespace tcp_flags {
inline constexpr std::uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPush = 0x08, kAck = 0x10;
}

// `options`: a multiple of 4 bytes, at most 40.
inline Transport tcp(std::uint16_t source, std::uint16_t destination, std::uint8_t flags = tcp_flags::kSyn,
                     const std::string& payload = {}, std::uint32_t sequence = 1000, std::uint32_t acknowledged = 0,
                     const Bytes& options = {}) {
  Transport out{6, {}, 16};
  put16(out.bytes, source);
  put16(out.bytes, destination);
  put32(out.bytes, sequence);
  put32(out.bytes, acknowledged);
  out.bytes.push_back(static_cast<std::uint8_t>((5 + options.size() / 4) << 4));
  out.bytes.push_back(flags);
  put16(out.bytes, 65535);
  put32(out.bytes, 0);  // checksum, urgent pointer
  put(out.bytes, options);
  put(out.bytes, payload);
  return out;
}

// One chunk: 0 DATA, 1 INIT, 2 INIT ACK, 6 ABORT, 7 SHUTDOWN, 14 SHUTDOWN COMPLETE, … (RFC 9260).
inline Transport sctp(std::uint16_t source, std::uint16_t destination, std::uint8_t chunk = 1,
                      const Bytes& value = Bytes(16, 0)) {
  Transport out{132, {}};
  put16(out.bytes, source);
  put16(out.bytes, destination);
  put32(out.bytes, 0x01020304);  // verification tag
  put32(out.bytes, 0);
  out.bytes.push_back(chunk);
  out.bytes.push_back(0);
  put16(out.bytes, static_cast<std::uint16_t>(4 + value.size()));
  put(out.bytes, value);
  const std::uint32_t sum = crc32c(out.bytes);
  set16(out.bytes, 8, static_cast<std::uint16_t>(sum >> 16));
  set16(out.bytes, 10, static_cast<std::uint16_t>(sum));
  return out;
}

// ICMP, or ICMPv6 under an IPv6 header.
inline Transport icmp(std::uint8_t type, std::uint8_t code = 0, const Bytes& rest = {0, 1, 0, 1}) {
  Transport out{1, {type, code, 0, 0}, 2, false};
  put(out.bytes, rest);
  return out;
}

inline Transport icmp6(std::uint8_t type, std::uint8_t code = 0, const Bytes& rest = {0, 1, 0, 1}) {
  Transport out{58, {type, code, 0, 0}, 2};
  put(out.bytes, rest);
  return out;
}

// What a query or its answer says after the checksum, and what an error says: 4 bytes of its own, then the start of the
// packet that it is about (an IP header and what follows).
inline Bytes echo_rest(std::uint16_t id, std::uint16_t sequence = 1) {
  Bytes out;
  put16(out, id);
  put16(out, sequence);
  return out;
}
inline Bytes error_rest(const Bytes& packet, std::uint32_t own = 0) {
  Bytes out;
  put32(out, own);
  put(out, packet);
  return out;
}

// The transport's bytes with its checksum, as it is between these addresses.
inline Bytes summed(const Ip& ip, Transport transport) {
  if (transport.checksum_at == Transport::kNone) return transport.bytes;
  Bytes pseudo;
  if (transport.pseudo_header) {
    put(pseudo, ip.source.bytes());
    put(pseudo, ip.destination.bytes());
    put32(pseudo, static_cast<std::uint32_t>(transport.bytes.size()));
    put32(pseudo, transport.protocol);
  }
  put(pseudo, transport.bytes);
  std::uint16_t sum = checksum(pseudo);
  if (sum == 0 && transport.protocol == 17) sum = 0xffff;  // 0 says that there is none
  set16(transport.bytes, transport.checksum_at, sum);
  return transport.bytes;
}

// Adds the IP header, or headers, and `payload`, which is of `protocol`.
inline void put_ip(Bytes& out, const Ip& ip, std::uint8_t protocol, const Bytes& payload) {
  if (ip.source.is_v4()) {
    Bytes header{static_cast<std::uint8_t>(0x45 + ip.options.size() / 4), 0};
    put16(header, static_cast<std::uint16_t>(20 + ip.options.size() + payload.size()));
    put16(header, ip.fragment ? static_cast<std::uint16_t>(ip.fragment->id) : 0);
    put16(header, ip.fragment ? ip.fragment->offset | (ip.fragment->more ? 0x2000 : 0) : 0x4000);  // or: don't fragment
    header.push_back(ip.ttl);
    header.push_back(protocol);
    put16(header, 0);
    put(header, ip.source.bytes());
    put(header, ip.destination.bytes());
    put(header, ip.options);
    set16(header, 10, checksum(header));
    put(out, header);
  } else {
    Bytes chain;
    for (std::size_t i = 0; i < ip.extensions.size(); ++i) {
      const bool last = i + 1 == ip.extensions.size();
      chain.push_back(!last ? ip.extensions[i + 1].type : ip.fragment ? 44 : protocol);
      // Authentication headers count in other units than all others.
      const std::size_t size = 2 + ip.extensions[i].body.size();
      chain.push_back(static_cast<std::uint8_t>(ip.extensions[i].type == 51 ? size / 4 - 2 : size / 8 - 1));
      put(chain, ip.extensions[i].body);
    }
    if (ip.fragment) {
      chain.push_back(protocol);
      chain.push_back(0);
      put16(chain, static_cast<std::uint16_t>(ip.fragment->offset << 3 | (ip.fragment->more ? 1 : 0)));
      put32(chain, ip.fragment->id);
    }
    put32(out, 6U << 28);
    put16(out, static_cast<std::uint16_t>(chain.size() + payload.size()));
    out.push_back(!ip.extensions.empty() ? ip.extensions[0].type : ip.fragment ? 44 : protocol);
    out.push_back(ip.ttl);
    put(out, ip.source.bytes());
    put(out, ip.destination.bytes());
    put(out, chain);
  }
  put(out, payload);
}

// A packet without a frame, as ICMP errors carry it.
inline Bytes packet(const Ip& ip, const Transport& transport) {
  Bytes out;
  put_ip(out, ip, transport.protocol, summed(ip, transport));
  return out;
}

// A frame of either family, as `ip`'s addresses say. A fragment's transport is what this fragment carries.
inline Bytes frame(const Ethernet& ethernet, const Ip& ip, const Transport& transport) {
  Bytes out;
  put(out, ethernet.destination);
  put(out, ethernet.source);
  put16(out, ip.source.is_v4() ? 0x0800 : 0x86dd);
  put_ip(out, ip, transport.protocol, summed(ip, transport));
  return out;
}

// The same in fragments with `size` bytes of the transport each, a multiple of 8.
inline std::vector<Bytes> fragments(const Ethernet& ethernet, Ip ip, const Transport& transport, std::size_t size,
                                    std::uint32_t id) {
  const Bytes whole = summed(ip, transport);
  std::vector<Bytes> out;
  for (std::size_t at = 0; at < whole.size(); at += size) {
    const std::size_t end = std::min(at + size, whole.size());
    ip.fragment = Fragment{id, static_cast<std::uint16_t>(at / 8), end != whole.size()};
    const auto begin = whole.begin() + static_cast<std::ptrdiff_t>(at);
    const auto stop = whole.begin() + static_cast<std::ptrdiff_t>(end);
    out.push_back(frame(ethernet, ip, {transport.protocol, Bytes(begin, stop)}));
  }
  return out;
}

// An ARP request (operation 1) or reply (2) for IPv4.
struct Arp {
  std::uint16_t operation = 1;
  Mac sender_mac{};
  IpAddress sender;
  Mac target_mac{};
  IpAddress target;
};

inline Bytes frame(const Ethernet& ethernet, const Arp& arp) {
  Bytes out;
  put(out, ethernet.destination);
  put(out, ethernet.source);
  put16(out, 0x0806);
  put16(out, 1);
  put16(out, 0x0800);
  out.push_back(6);
  out.push_back(4);
  put16(out, arp.operation);
  put(out, arp.sender_mac);
  put(out, arp.sender.bytes());
  put(out, arp.target_mac);
  put(out, arp.target.bytes());
  return out;
}

// Any other protocol.
inline Bytes frame(const Ethernet& ethernet, std::uint16_t ethertype, const Bytes& payload) {
  Bytes out;
  put(out, ethernet.destination);
  put(out, ethernet.source);
  put16(out, ethertype);
  put(out, payload);
  return out;
}

}  // namespace fairlead::testkit
