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

}  // namespace fairlead::datapath
