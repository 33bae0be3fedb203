// SPDX-License-Identifier: Apache-2.0
// ConntrackSettings: what a user may say of connection tracking, with kube-proxy's names and defaults.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace fairlead::config {

struct ConntrackSettings {
  std::chrono::milliseconds tcp_established_timeout{std::chrono::hours(24)};  // idle
  std::chrono::milliseconds tcp_close_wait_timeout{std::chrono::hours(1)};
  std::chrono::milliseconds udp_timeout{std::chrono::seconds(30)};          // while nobody has answered
  std::chrono::milliseconds udp_stream_timeout{std::chrono::seconds(120)};  // once somebody has
  bool tcp_be_liberal = false;                                              // packets outside the window are valid
  std::uint32_t max_per_core = 32'768;  // connections tracked a core; 0: the agent's own size
  std::uint32_t min = 131'072;          // connections tracked at least, unless that is 0
  bool operator==(const ConntrackSettings&) const = default;
};

// How many connections of each family there is room for: as kube-proxy sizes the kernel's table, up to 1,048,576, since
// this room is taken when the maps are made.
inline std::uint32_t tracked_connections(const ConntrackSettings& settings, std::uint32_t cores) {
  constexpr std::uint64_t kOwn = 131'072;
  constexpr std::uint64_t kMost = 1U << 20;
  const std::uint64_t wanted = std::max<std::uint64_t>(std::uint64_t{settings.max_per_core} * cores, settings.min);
  return static_cast<std::uint32_t>(std::min(settings.max_per_core == 0 || wanted == 0 ? kOwn : wanted, kMost));
}

}  // namespace fairlead::config
