// SPDX-License-Identifier: Apache-2.0
#include "agent/config/host_facts.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>

#include "agent/base/socket_name.h"

namespace fairlead::config {
namespace {

// The source address the kernel would choose towards `target`, a documentation address. Connecting UDP sends nothing.
std::optional<IpAddress> source_towards(const char* target) {
  const SocketName to = socket_name(IpAddress::parse(target).value(), 9);
  const int fd = ::socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return std::nullopt;
  std::optional<IpAddress> source;
  SocketName own;
  if (::connect(fd, to.get(), to.size) == 0 && ::getsockname(fd, own.get(), &own.size) == 0) {
    source = socket_address(*own.get())->address;
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
    const auto name = socket_address(*at->ifa_addr);
    if (name && !name->address.is_loopback() && !name->address.is_link_local()) found = name->address;
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
