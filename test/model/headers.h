// SPDX-License-Identifier: Apache-2.0
// The headers of a packet, found in its bytes the slow and obvious way: what the model goes by, and packets in words.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>

#include "agent/base/ip.h"
#include "test/kit/packet.h"

namespace fairlead::model {

using testkit::Bytes;

inline std::uint16_t get16(const Bytes& bytes, std::size_t at) {
  return static_cast<std::uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}
inline std::uint32_t get32(const Bytes& bytes, std::size_t at) {
  return static_cast<std::uint32_t>(get16(bytes, at)) << 16 | get16(bytes, at + 2);
}

// Offsets are from the start of the bytes. All numbers in host order.
struct IpHeaders {
  Family family = Family::kV4;
  std::size_t ip = 0;         // where the IP header starts …
  std::size_t transport = 0;  // … and where what follows all of them does
  std::uint8_t protocol = 0;  // of what follows
  IpAddress source;
  IpAddress destination;
  std::uint8_t ttl = 0;
  std::optional<testkit::Fragment> fragment;
  std::optional<std::size_t> fragment_header;  // IPv6: where it starts
  std::size_t extensions = 0;                  // IPv6: how many came first
};

// The first header alone, with `transport` and `protocol` of what follows it.
std::optional<IpHeaders> base_header(const Bytes& bytes, std::size_t at, Family family);

// The IP packet that starts at `at`, with all its headers; nothing where its headers are cut or make no sense.
std::optional<IpHeaders> ip_headers(const Bytes& bytes, std::size_t at, Family family);

// An Ethernet frame in words: "IPv4 10.1.0.1 → 10.96.0.1 ttl 64 TCP 1000 → 80 SYN, 3 bytes".
std::string words(const Bytes& frame);

}  // namespace fairlead::model
