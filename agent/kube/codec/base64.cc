// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/codec/base64.h"

#include <cstdint>

namespace fairlead::kube {
namespace {
constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
}

std::string base64_encode(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      group = group << 8 | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0U);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      text += at + i <= bytes.size() ? kAlphabet[group >> (18 - 6 * i) & 0x3f] : '=';
    }
  }
  return text;
}

Result<std::string> base64_decode(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  std::uint32_t group = 0;
  unsigned digits = 0;
  unsigned padding = 0;
  for (const char c : text) {
    if (c == '\n' || c == '\r') continue;
    const std::size_t value = kAlphabet.find(c);
    const bool pad = c == '=' && (digits % 4 >= 2);
    if (!pad && (value == kAlphabet.npos || padding != 0)) {
      return fail(Code::kInvalid, "not base64: '{}' after {} characters", c, digits);
    }
    padding += pad ? 1 : 0;
    group = group << 6 | (pad ? 0U : static_cast<std::uint32_t>(value));
    if (++digits % 4 != 0) continue;
    for (unsigned i = 0; i < 3 - padding; ++i) bytes += static_cast<char>(group >> (16 - 8 * i) & 0xff);
    group = 0;
  }
  if (digits % 4 != 0) return fail(Code::kInvalid, "not base64: {} characters, not a multiple of 4", digits);
  return bytes;
}

}  // namespace fairlead::kube
