// SPDX-License-Identifier: Apache-2.0
#include "agent/routing/stack.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <sstream>

#include "agent/base/atomic_file.h"
#include "agent/base/unique_fd.h"

namespace fairlead::routing {
namespace {

constexpr const char* kIpv6 = "/proc/sys/net/ipv6/conf";

// Writes `value` unless the setting has it.
Result<> want(const std::string& path, const std::string& value) {
  FL_LET(const std::string now, read_file(path));
  if (now == value + "\n") return {};
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, fmt::format("open {}", path));
  if (write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
    return fail_errno(errno, fmt::format("write {} to {}", value, path));
  }
  return {};
}

}  // namespace

Result<> enable_forwarding(const std::string& device) {
  return want(fmt::format("/proc/sys/net/ipv4/conf/{}/forwarding", device), "1");
}

Result<> loosen_reverse_path(const std::string& device) {
  return want(fmt::format("/proc/sys/net/ipv4/conf/{}/rp_filter", device), "2");
}

Result<> enable_ipv6_forwarding() {
  const std::string all = fmt::format("{}/all/forwarding", kIpv6);
  FL_LET(const std::string now, read_file(all));
  if (now == "1\n") return {};
  std::error_code error;
  for (const auto& device : std::filesystem::directory_iterator(kIpv6, error)) {
    const std::string accept = device.path() / "accept_ra";
    // A device may be gone by now, and with it its settings.
    if (const auto value = read_file(accept); value && *value == "1\n") (void)want(accept, "2");
  }
  return want(all, "1");
}

std::string with_range(const std::string& reserved, std::uint16_t first, std::uint16_t last) {
  std::string text = reserved.substr(0, reserved.find('\n'));
  std::istringstream ranges(text);
  for (std::string range; std::getline(ranges, range, ',');) {
    const std::size_t dash = range.find('-');
    const unsigned long low = std::stoul(range);
    const unsigned long high = dash == std::string::npos ? low : std::stoul(range.substr(dash + 1));
    if (low <= first && last <= high) return text;
  }
  return fmt::format("{}{}{}-{}", text, text.empty() ? "" : ",", first, last);
}

Result<> reserve_ports(std::uint16_t first, std::uint16_t last) {
  const std::string path = "/proc/sys/net/ipv4/ip_local_reserved_ports";
  FL_LET(const std::string now, read_file(path));
  return want(path, with_range(now, first, last));
}

}  // namespace fairlead::routing
