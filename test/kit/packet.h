// SPDX-License-Identifier: Apache-2.0
// Packets as values: headers that a test names field by field, and the bytes that they make, with lengths and
// checksums.
#pragma once

#include <cstdint>
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

struct Ip {
  IpAddress source;
  IpAddress destination;
  std::uint8_t ttl = 64;  // or hop limit
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

inline Transport tcp(std::uint16_t source, std::uint16_t destination, std::uint8_t flags = 0x02,
                     const std::string& payload = {}) {
  Transport out{6, {}, 16};
  put16(out.bytes, source);
  put16(out.bytes, destination);
  put32(out.bytes, 1000);  // sequence
  put32(out.bytes, 0);
  out.bytes.push_back(5 << 4);
  out.bytes.push_back(flags);
  put16(out.bytes, 65535);
  put32(out.bytes, 0);  // checksum, urgent pointer
  put(out.bytes, payload);
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

// A frame of either family, as `ip`'s addresses say.
inline Bytes frame(const Ethernet& ethernet, const Ip& ip, Transport transport) {
  if (transport.checksum_at != Transport::kNone) {
    Bytes pseudo;
    if (transport.pseudo_header) {
      put(pseudo, ip.source.bytes());
      put(pseudo, ip.destination.bytes());
      put32(pseudo, static_cast<std::uint32_t>(transport.bytes.size()));
      put32(pseudo, transport.protocol);
    }
    put(pseudo, transport.bytes);
    set16(transport.bytes, transport.checksum_at, checksum(pseudo));
  }
  Bytes out;
  put(out, ethernet.destination);
  put(out, ethernet.source);
  if (ip.source.is_v4()) {
    put16(out, 0x0800);
    Bytes header{0x45, 0};
    put16(header, static_cast<std::uint16_t>(20 + transport.bytes.size()));
    put32(header, 0x00004000);  // id 0, don't fragment
    header.push_back(ip.ttl);
    header.push_back(transport.protocol);
    put16(header, 0);
    put(header, ip.source.bytes());
    put(header, ip.destination.bytes());
    set16(header, 10, checksum(header));
    put(out, header);
  } else {
    put16(out, 0x86dd);
    put32(out, 6U << 28);
    put16(out, static_cast<std::uint16_t>(transport.bytes.size()));
    out.push_back(transport.protocol);
    out.push_back(ip.ttl);
    put(out, ip.source.bytes());
    put(out, ip.destination.bytes());
  }
  put(out, transport.bytes);
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
