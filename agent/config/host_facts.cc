// SPDX-License-Identifier: Apache-2.0
#include "agent/config/host_facts.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>

namespace fairlead::config {
namespace {

std::optional<IpAddress> address_of(const sockaddr& any) {
  if (any.sa_family == AF_INET) {
    std::array<std::uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in&>(any).sin_addr, bytes.size());
    return IpAddress::from_v4(bytes);
  }
  if (any.sa_family == AF_INET6) {
    std::array<std::uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in6&>(any).sin6_addr, bytes.size());
    return IpAddress::from_v6(bytes);
  }
  return std::nullopt;
}

// The source address the kernel would choose towards `target`, a documentation address. Connecting UDP sends nothing.
std::optional<IpAddress> source_towards(const char* target) {
  sockaddr_storage to{};
  socklen_t size = 0;
  if (auto& v4 = reinterpret_cast<sockaddr_in&>(to); ::inet_pton(AF_INET, target, &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(9);
    size = sizeof v4;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(to);
    ::inet_pton(AF_INET6, target, &v6.sin6_addr);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(9);
    size = sizeof v6;
  }
  const int fd = ::socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return std::nullopt;
  std::optional<IpAddress> source;
  sockaddr_storage own{};
  socklen_t own_size = sizeof own;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), size) == 0 &&
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) == 0) {
    source = address_of(reinterpret_cast<const sockaddr&>(own));
  }
  ::close(fd);
  if (source && (source->is_loopback() || source->is_link_local())) return std::nullopt;
  return source;
}

std::optional<IpAddress> first_interface_address() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return std::nullopt;
  std::optional<IpAddress> found;
  for (const ifaddrs* at = all; at != nullptr && !found; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || (at->ifa_flags & IFF_UP) == 0) continue;
    const auto address = address_of(*at->ifa_addr);
    if (address && !address->is_loopback() && !address->is_link_local()) found = address;
  }
  ::freeifaddrs(all);
  return found;
}

std::vector<std::string> cgroup2_mounts() {
  std::vector<std::string> found;
  std::ifstream mounts("/proc/self/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string device, path, type;
    words >> device >> path >> type;
    if (type == "cgroup2") found.push_back(path);
  }
  return found;
}

}  // namespace

HostFacts read_host_facts() {
  HostFacts facts;
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) == 0) facts.hostname = name.data();
  for (const char* target : {"192.0.2.1", "2001:db8::1"}) {
    if (const auto source = source_towards(target)) facts.addresses.push_back(*source);
  }
  if (facts.addresses.empty()) {
    if (const auto address = first_interface_address()) facts.addresses.push_back(*address);
  }
  facts.cgroup2_mounts = cgroup2_mounts();
  facts.in_cluster = std::getenv("KUBERNETES_SERVICE_HOST") != nullptr;
  return facts;
}

}  // namespace fairlead::config
