// SPDX-License-Identifier: Apache-2.0
#include "agent/base/ip.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace fairlead {
namespace {

// Zeroes all bits of `bytes` after the first `prefix`.
void mask(std::span<std::uint8_t> bytes, unsigned prefix) {
  for (unsigned i = 0; i < bytes.size(); ++i) {
    const unsigned before = i * 8;
    if (before >= prefix) {
      bytes[i] = 0;
    } else if (prefix - before < 8) {
      bytes[i] = static_cast<std::uint8_t>(bytes[i] & (0xffU << (8 - (prefix - before))));
    }
  }
}

IpAddress from_bytes(Family family, const std::array<std::uint8_t, 16>& bytes) {
  if (family == Family::kV6) return IpAddress::from_v6(bytes);
  return IpAddress::from_v4({bytes[0], bytes[1], bytes[2], bytes[3]});
}

// Write at `out` and return the end of it.
char* write_number(char* out, unsigned value, int base) {
  return std::to_chars(out, out + 5, value, base).ptr;
}

char* write_v4(char* out, const std::uint8_t* bytes) {
  for (int i = 0; i < 4; ++i) {
    if (i != 0) *out++ = '.';
    out = write_number(out, bytes[i], 10);
  }
  return out;
}

// RFC 5952: the first of the longest runs of two or more zeros is left out; an IPv4 address that is mapped, or follows
// nothing but zeros, is written as one.
char* write_v6(char* out, const std::array<std::uint8_t, 16>& bytes) {
  std::array<unsigned, 8> words{};
  for (std::size_t i = 0; i < 8; ++i) words[i] = static_cast<unsigned>(bytes[2 * i] << 8 | bytes[2 * i + 1]);
  std::size_t begin = 0;
  std::size_t length = 0;
  for (std::size_t i = 0; i < 8;) {
    const std::size_t first = i;
    while (i < 8 && words[i] == 0) ++i;
    if (i - first > length) {
      begin = first;
      length = i - first;
    }
    if (i == first) ++i;
  }
  if (length < 2) length = 0;
  const bool ends_in_v4 = length != 0 && begin == 0 && (length == 6 || (length == 5 && words[5] == 0xffff));
  for (std::size_t i = 0; i < 8; ++i) {
    if (length != 0 && i == begin) {
      *out++ = ':';
      i += length - 1;
      if (i == 7) *out++ = ':';
      continue;
    }
    if (i != 0) *out++ = ':';
    if (ends_in_v4 && i == 6) return write_v4(out, &bytes[12]);
    out = write_number(out, words[i], 16);
  }
  return out;
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t comma = text.find(',');
    parts.push_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

template <class T>
bool one_of_each_family(const std::vector<T>& list) {
  return list.size() < 2 || (list.size() == 2 && list[0].family() != list[1].family());
}

}  // namespace

Result<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string copy(text);
  IpAddress address;
  if (inet_pton(AF_INET, copy.c_str(), address.bytes_.data()) == 1) return address;
  if (inet_pton(AF_INET6, copy.c_str(), address.bytes_.data()) == 1) {
    address.family_ = Family::kV6;
    return address;
  }
  return fail(Code::kInvalid, "\"{}\" is not an IP address", text);
}

IpAddress IpAddress::from_v4(std::array<std::uint8_t, 4> bytes) {
  IpAddress address;
  std::ranges::copy(bytes, address.bytes_.begin());
  return address;
}

IpAddress IpAddress::from_v6(std::array<std::uint8_t, 16> bytes) {
  IpAddress address;
  address.family_ = Family::kV6;
  address.bytes_ = bytes;
  return address;
}

std::uint32_t IpAddress::v4_be() const {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes_.data(), sizeof(value));
  return value;
}

bool IpAddress::is_unspecified() const {
  return std::ranges::all_of(bytes(), [](std::uint8_t byte) { return byte == 0; });
}

bool IpAddress::is_loopback() const {
  if (is_v4()) return bytes_[0] == 127;
  return std::all_of(bytes_.begin(), bytes_.end() - 1, [](std::uint8_t b) { return b == 0; }) && bytes_[15] == 1;
}

bool IpAddress::is_link_local() const {
  if (is_v4()) return bytes_[0] == 169 && bytes_[1] == 254;
  return bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

bool IpAddress::is_multicast() const {
  return is_v4() ? (bytes_[0] & 0xf0) == 0xe0 : bytes_[0] == 0xff;
}

// As inet_ntop() does, which takes ten times as long; a journal or a list names hundreds.
std::string IpAddress::str() const {
  char text[INET6_ADDRSTRLEN];
  return {text, is_v4() ? write_v4(text, bytes_.data()) : write_v6(text, bytes_)};
}

Result<Cidr> Cidr::parse(std::string_view text, bool mask_host_bits) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return fail(Code::kInvalid, "\"{}\" is not a prefix: want ADDRESS/BITS", text);
  FL_LET(const IpAddress address, IpAddress::parse(text.substr(0, slash)));
  const std::string_view digits = text.substr(slash + 1);
  unsigned prefix = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), prefix);
  if (error != std::errc{} || end != digits.data() + digits.size() || prefix > address.bits()) {
    return fail(Code::kInvalid, "\"{}\" is not a prefix: want 0 to {} bits", text, address.bits());
  }
  std::array<std::uint8_t, 16> bytes{};
  std::ranges::copy(address.bytes(), bytes.begin());
  mask({bytes.data(), address.bytes().size()}, prefix);
  Cidr cidr;
  cidr.base_ = from_bytes(address.family(), bytes);
  cidr.prefix_ = prefix;
  if (!mask_host_bits && cidr.base_ != address) {
    return fail(Code::kInvalid, "\"{}\" has bits set after its prefix: want {}", text, cidr.str());
  }
  return cidr;
}

Cidr Cidr::host(const IpAddress& address) {
  Cidr cidr;
  cidr.base_ = address;
  cidr.prefix_ = address.bits();
  return cidr;
}

bool Cidr::contains(const IpAddress& address) const {
  if (address.family() != family()) return false;
  std::array<std::uint8_t, 16> bytes{};
  std::ranges::copy(address.bytes(), bytes.begin());
  mask({bytes.data(), address.bytes().size()}, prefix_);
  return from_bytes(address.family(), bytes) == base_;
}

std::uint64_t Cidr::size() const {
  const unsigned host_bits = base_.bits() - prefix_;
  return 1ULL << std::min(host_bits, 63U);
}

IpAddress Cidr::at(std::uint64_t offset) const {
  std::array<std::uint8_t, 16> bytes{};
  std::ranges::copy(base_.bytes(), bytes.begin());
  std::uint64_t carry = offset;
  for (std::size_t i = base_.bytes().size(); i-- > 0 && carry != 0;) {
    carry += bytes[i];
    bytes[i] = static_cast<std::uint8_t>(carry & 0xff);
    carry >>= 8;
  }
  return from_bytes(family(), bytes);
}

std::uint64_t Cidr::offset_of(const IpAddress& address) const {
  std::uint64_t offset = 0;
  const auto bytes = address.bytes();
  const auto base = base_.bytes();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    offset = (offset << 8) | static_cast<std::uint8_t>(bytes[i] ^ base[i]);
  }
  return offset;
}

std::string Cidr::str() const {
  return fmt::format("{}/{}", base_.str(), prefix_);
}

Result<std::vector<Cidr>> parse_cidr_list(std::string_view text) {
  std::vector<Cidr> list;
  for (const std::string_view part : split(text)) {
    FL_LET(const Cidr cidr, Cidr::parse(part));
    list.push_back(cidr);
  }
  if (!one_of_each_family(list)) return fail(Code::kInvalid, "\"{}\": want at most one prefix of each family", text);
  return list;
}

Result<std::vector<IpAddress>> parse_ip_list(std::string_view text) {
  std::vector<IpAddress> list;
  for (const std::string_view part : split(text)) {
    FL_LET(const IpAddress address, IpAddress::parse(part));
    list.push_back(address);
  }
  if (!one_of_each_family(list)) return fail(Code::kInvalid, "\"{}\": want at most one address of each family", text);
  return list;
}

Result<SocketAddress> SocketAddress::parse(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  const auto bad = [text] { return fail(Code::kInvalid, "\"{}\": want ADDRESS:PORT", text); };
  if (colon == std::string_view::npos) return bad();
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  SocketAddress out;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
  const auto address = IpAddress::parse(host);
  if (!address || address->is_v4() == bracketed || error != std::errc() || end != port.data() + port.size())
    return bad();
  out.address = *address;
  return out;
}

std::string SocketAddress::str() const {
  return fmt::format(fmt::runtime(address.is_v4() ? "{}:{}" : "[{}]:{}"), address.str(), port);
}

std::string_view to_string(Protocol protocol) {
  switch (protocol) {
    case Protocol::kTcp:
      return "TCP";
    case Protocol::kUdp:
      return "UDP";
    case Protocol::kSctp:
      return "SCTP";
  }
  return "unknown";
}

Result<Protocol> parse_protocol(std::string_view text) {
  if (text.empty() || text == "TCP") return Protocol::kTcp;
  if (text == "UDP") return Protocol::kUdp;
  if (text == "SCTP") return Protocol::kSctp;
  return fail(Code::kInvalid, "protocol \"{}\": want TCP, UDP or SCTP", text);
}

}  // namespace fairlead
