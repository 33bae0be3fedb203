// SPDX-License-Identifier: Apache-2.0
// IP addresses, prefixes and transport protocols as values.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace fairlead {

enum class Family : std::uint8_t { kV4 = 4, kV6 = 6 };

// An IPv4 or IPv6 address. Bytes are in network order; a v4-mapped IPv6 text stays IPv6.
class IpAddress {
 public:
  IpAddress() = default;  // 0.0.0.0
  static Result<IpAddress> parse(std::string_view text);
  static IpAddress from_v4(std::array<std::uint8_t, 4> bytes);
  static IpAddress from_v6(std::array<std::uint8_t, 16> bytes);

  Family family() const { return family_; }
  bool is_v4() const { return family_ == Family::kV4; }
  // 4 or 16 bytes, network order.
  std::span<const std::uint8_t> bytes() const { return {bytes_.data(), is_v4() ? 4U : 16U}; }
  // The four bytes as they stand in a __be32. Only for v4.
  std::uint32_t v4_be() const;
  unsigned bits() const { return is_v4() ? 32 : 128; }
  bool is_unspecified() const;
  bool is_loopback() const;
  bool is_link_local() const;
  bool is_multicast() const;
  std::string str() const;  // canonical (RFC 5952)

  auto operator<=>(const IpAddress&) const = default;

 private:
  Family family_ = Family::kV4;
  std::array<std::uint8_t, 16> bytes_{};
};

// A prefix; host bits are zero.
class Cidr {
 public:
  Cidr() = default;
  // Refuses host bits unless `mask_host_bits`.
  static Result<Cidr> parse(std::string_view text, bool mask_host_bits = false);
  static Cidr host(const IpAddress& address);

  const IpAddress& base() const { return base_; }
  unsigned prefix() const { return prefix_; }
  Family family() const { return base_.family(); }
  bool contains(const IpAddress& address) const;
  // How many addresses, saturated at 2^63.
  std::uint64_t size() const;
  // The address at `offset` from the base; the caller keeps offset < size().
  IpAddress at(std::uint64_t offset) const;
  // How far `address` is from the base; contains(address) holds.
  std::uint64_t offset_of(const IpAddress& address) const;
  std::string str() const;

  auto operator<=>(const Cidr&) const = default;

 private:
  IpAddress base_;
  unsigned prefix_ = 0;
};

// "10.0.0.0/16,fd00::/64": one or more prefixes, at most one of a family.
Result<std::vector<Cidr>> parse_cidr_list(std::string_view text);
// "10.0.0.1,fd00::1": one or more addresses, at most one of a family.
Result<std::vector<IpAddress>> parse_ip_list(std::string_view text);

// Where to listen or connect. Port in host order.
struct SocketAddress {
  IpAddress address;
  std::uint16_t port = 0;
  // "127.0.0.1:10249", "[::1]:10249".
  static Result<SocketAddress> parse(std::string_view text);
  std::string str() const;
  auto operator<=>(const SocketAddress&) const = default;
};

// Transport protocols by IP protocol number.
enum class Protocol : std::uint8_t { kTcp = 6, kUdp = 17, kSctp = 132 };
std::string_view to_string(Protocol protocol);           // "TCP", as the API writes it
Result<Protocol> parse_protocol(std::string_view text);  // "" is TCP, as the API defaults it

}  // namespace fairlead

template <>
struct fmt::formatter<fairlead::IpAddress> : fmt::formatter<std::string> {
  auto format(const fairlead::IpAddress& address, fmt::format_context& context) const {
    return fmt::formatter<std::string>::format(address.str(), context);
  }
};
template <>
struct fmt::formatter<fairlead::Cidr> : fmt::formatter<std::string> {
  auto format(const fairlead::Cidr& cidr, fmt::format_context& context) const {
    return fmt::formatter<std::string>::format(cidr.str(), context);
  }
};
