// SPDX-License-Identifier: Apache-2.0
// Between agent values and the structs shared with BPF.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "agent/base/ip.h"
#include "bpf/abi/address.h"

namespace fairlead::datapath {

inline ipv6_address to_abi_v6(const IpAddress& address) {
  ipv6_address out{};
  std::ranges::copy(address.bytes(), reinterpret_cast<std::uint8_t*>(out.words));
  return out;
}

inline IpAddress from_abi(std::uint32_t v4_be) {
  std::array<std::uint8_t, 4> bytes{};
  std::memcpy(bytes.data(), &v4_be, sizeof(v4_be));
  return IpAddress::from_v4(bytes);
}

inline IpAddress from_abi(const ipv6_address& v6) {
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), v6.words, sizeof(v6.words));
  return IpAddress::from_v6(bytes);
}

// IPv4 as v4-mapped IPv6, which some records hold both families as.
inline ipv6_address to_mapped(const IpAddress& address) {
  return address.is_v4() ? ipv6_address{{0, 0, __builtin_bswap32(0xffff), address.v4_be()}} : to_abi_v6(address);
}

inline bool is_mapped(const ipv6_address& address) {
  return address.words[0] == 0 && address.words[1] == 0 && address.words[2] == __builtin_bswap32(0xffff);
}

inline IpAddress from_mapped(const ipv6_address& address) {
  return is_mapped(address) ? from_abi(address.words[3]) : from_abi(address);
}

}  // namespace fairlead::datapath
