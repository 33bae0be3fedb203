// SPDX-License-Identifier: Apache-2.0
// How connections to a Service are spread over its backends.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

namespace fairlead {

enum class Balancing : std::uint8_t {
  kRandom,
  kRoundRobin,
  kLeastConnections,
  kSourceHash,       // one client address: one backend
  kDestinationHash,  // one service address and port: one backend
  kMaglev,           // by client, its flow and the service
};

// The words that users write, in annotations and in configuration.
inline constexpr std::array<std::pair<std::string_view, Balancing>, 6> kBalancingNames{{
    {"random", Balancing::kRandom},
    {"round-robin", Balancing::kRoundRobin},
    {"least-connections", Balancing::kLeastConnections},
    {"source-hash", Balancing::kSourceHash},
    {"destination-hash", Balancing::kDestinationHash},
    {"maglev", Balancing::kMaglev},
}};

constexpr std::string_view to_string(Balancing balancing) {
  return kBalancingNames[static_cast<std::size_t>(balancing)].first;
}

constexpr std::optional<Balancing> parse_balancing(std::string_view word) {
  for (const auto& [name, balancing] : kBalancingNames) {
    if (name == word) return balancing;
  }
  return std::nullopt;
}

inline constexpr std::uint32_t kMaxWeight = 100;

}  // namespace fairlead
