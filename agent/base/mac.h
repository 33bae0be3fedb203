// SPDX-License-Identifier: Apache-2.0
// Ethernet addresses as values.
#pragma once

#include <spdlog/fmt/fmt.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/ip.h"

namespace fairlead {

using Mac = std::array<std::uint8_t, 6>;

// "02:00:00:00:00:01"
inline std::string to_string(const Mac& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

// The way back, in either case; nothing where `text` is none.
inline std::optional<Mac> parse_mac(std::string_view text) {
  Mac mac{};
  if (text.size() != 3 * mac.size() - 1) return std::nullopt;
  for (std::size_t i = 0; i < mac.size(); ++i) {
    const char* first = text.data() + 3 * i;
    const auto [end, error] = std::from_chars(first, first + 2, mac[i], 16);
    if (error != std::errc() || end != first + 2 || (i + 1 < mac.size() && *end != ':')) return std::nullopt;
  }
  return mac;
}

// The link-local IPv6 address that the kernel gives a device with this address (RFC 4291, appendix A).
inline IpAddress link_local_of(const Mac& mac) {
  return IpAddress::from_v6({0xfe, 0x80, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(mac[0] ^ 2U), mac[1], mac[2], 0xff,
                             0xfe, mac[3], mac[4], mac[5]});
}

}  // namespace fairlead
