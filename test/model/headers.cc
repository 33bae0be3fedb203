// SPDX-License-Identifier: Apache-2.0
#include "test/model/headers.h"

#include <fmt/format.h>

namespace fairlead::model {
namespace {

constexpr std::size_t kMaxExtensions = 6;

IpAddress address_at(const Bytes& bytes, std::size_t at, Family family) {
  if (family == Family::kV4) {
    std::array<std::uint8_t, 4> out{};
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), out.size(), out.begin());
    return IpAddress::from_v4(out);
  }
  std::array<std::uint8_t, 16> out{};
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), out.size(), out.begin());
  return IpAddress::from_v6(out);
}

// Headers that have another behind them: hop by hop, routing, fragment, authentication, destination options, mobility.
bool is_extension(std::uint8_t type) {
  return type == 0 || type == 43 || type == 44 || type == 51 || type == 60 || type == 135;
}

// Walks the extension headers that follow the first one.
std::optional<IpHeaders> with_extensions(const Bytes& bytes, IpHeaders out) {
  while (is_extension(out.protocol)) {
    if (out.fragment && out.fragment->offset != 0) break;  // what follows is in the middle of something
    if (out.extensions == kMaxExtensions || bytes.size() < out.transport + 8) return std::nullopt;
    std::size_t length = (bytes[out.transport + 1] + 1U) * 8;
    if (out.protocol == 51) length = (bytes[out.transport + 1] + 2U) * 4;
    if (out.protocol == 44) {
      length = 8;
      const std::uint16_t field = get16(bytes, out.transport + 2);
      out.fragment_header = out.transport;
      out.fragment =
          testkit::Fragment{get32(bytes, out.transport + 4), static_cast<std::uint16_t>(field >> 3), (field & 1) != 0};
    }
    out.protocol = bytes[out.transport];
    out.transport += length;
    ++out.extensions;
    if (bytes.size() < out.transport) return std::nullopt;
  }
  return out;
}

std::string flag_words(std::uint8_t flags) {
  static constexpr const char* kNames[] = {"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"};
  std::string out;
  for (unsigned bit = 0; bit < 8; ++bit) {
    if ((flags >> bit & 1) != 0) out += fmt::format("{}{}", out.empty() ? "" : "+", kNames[bit]);
  }
  return out.empty() ? "no flags" : out;
}

std::string ip_words(const Bytes& bytes, std::size_t at, Family family);

std::string transport_words(const Bytes& bytes, const IpHeaders& ip) {
  const std::size_t at = ip.transport;
  const std::size_t left = bytes.size() - at;
  const auto ports = [&](const char* name) {
    return left < 4 ? fmt::format("{} cut", name)
                    : fmt::format("{} {} → {}", name, get16(bytes, at), get16(bytes, at + 2));
  };
  if (ip.fragment && ip.fragment->offset != 0) return fmt::format("protocol {}, {} bytes", ip.protocol, left);
  switch (ip.protocol) {
    case 6:
      return left < 20 ? ports("TCP") + " cut"
                       : fmt::format("{} {}, {} bytes", ports("TCP"), flag_words(bytes[at + 13]), left);
    case 17:
      return fmt::format("{}, {} bytes", ports("UDP"), left);
    case 132:
      return left < 13 ? ports("SCTP") + " cut"
                       : fmt::format("{} chunk {}, {} bytes", ports("SCTP"), bytes[at + 12], left);
    case 1:
    case 58: {
      const char* name = ip.protocol == 1 ? "ICMP" : "ICMPv6";
      if (left < 8) return fmt::format("{} cut", name);
      const std::uint8_t type = bytes[at];
      const bool error =
          ip.protocol == 1 ? type == 3 || type == 4 || type == 5 || type == 11 || type == 12 : type < 128;
      std::string out = fmt::format("{} type {} code {}", name, type, bytes[at + 1]);
      return error ? fmt::format("{} about [{}]", out, ip_words(bytes, at + 8, ip.family))
                   : fmt::format("{} id {}, {} bytes", out, get16(bytes, at + 4), left);
    }
    default:
      return fmt::format("protocol {}, {} bytes", ip.protocol, left);
  }
}

std::string ip_words(const Bytes& bytes, std::size_t at, Family family) {
  const auto ip = ip_headers(bytes, at, family);
  if (!ip) return fmt::format("IPv{} broken, {} bytes", static_cast<int>(family), bytes.size() - at);
  std::string out =
      fmt::format("IPv{} {} → {} ttl {} ", static_cast<int>(family), ip->source.str(), ip->destination.str(), ip->ttl);
  if (family == Family::kV4 && ip->transport - at > 20) out += "with options ";
  if (ip->extensions != 0) out += fmt::format("{} extensions ", ip->extensions);
  if (ip->fragment) {
    out += fmt::format("fragment {} at {}{} ", ip->fragment->id, ip->fragment->offset * 8,
                       ip->fragment->more ? " and more" : ", the last");
  }
  return out + transport_words(bytes, *ip);
}

}  // namespace

std::optional<IpHeaders> base_header(const Bytes& bytes, std::size_t at, Family family) {
  const bool v4 = family == Family::kV4;
  if (bytes.size() < at + (v4 ? 20 : 40) || bytes[at] >> 4 != static_cast<int>(family)) return std::nullopt;
  const std::size_t length = v4 ? (bytes[at] & 0xfU) * 4 : 40;
  if (v4 && (length < 20 || bytes.size() < at + length)) return std::nullopt;
  return IpHeaders{.family = family,
                   .ip = at,
                   .transport = at + length,
                   .protocol = bytes[at + (v4 ? 9 : 6)],
                   .source = address_at(bytes, at + (v4 ? 12 : 8), family),
                   .destination = address_at(bytes, at + (v4 ? 16 : 24), family),
                   .ttl = bytes[at + (v4 ? 8 : 7)],
                   .fragment = {},
                   .fragment_header = {}};
}

std::optional<IpHeaders> ip_headers(const Bytes& bytes, std::size_t at, Family family) {
  auto out = base_header(bytes, at, family);
  if (!out) return std::nullopt;
  if (family == Family::kV6) return with_extensions(bytes, std::move(*out));
  if (const std::uint16_t field = get16(bytes, at + 6); (field & 0x3fff) != 0) {
    out->fragment =
        testkit::Fragment{get16(bytes, at + 4), static_cast<std::uint16_t>(field & 0x1fff), (field & 0x2000) != 0};
  }
  return out;
}

std::string words(const Bytes& frame) {
  if (frame.size() < 14) return fmt::format("{} bytes", frame.size());
  switch (get16(frame, 12)) {
    case 0x0800:
      return ip_words(frame, 14, Family::kV4);
    case 0x86dd:
      return ip_words(frame, 14, Family::kV6);
    case 0x0806:
      return fmt::format("ARP, {} bytes", frame.size());
    default:
      return fmt::format("ethertype {:04x}, {} bytes", get16(frame, 12), frame.size());
  }
}

}  // namespace fairlead::model
