// SPDX-License-Identifier: Apache-2.0
#include "agent/node/facts.h"

#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

namespace fairlead::node {
namespace {

std::string first_line(const char* path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string os_image() {
  std::ifstream in("/etc/os-release");
  constexpr std::string_view kKey = "PRETTY_NAME=\"";
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(kKey) && line.ends_with('"')) {
      return line.substr(kKey.size(), line.size() - kKey.size() - 1);
    }
  }
  return {};
}

// {"2Mi": bytes, …} of /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages.
std::map<std::string, std::uint64_t> huge_pages() {
  std::map<std::string, std::uint64_t> found;
  std::error_code error;
  for (std::filesystem::directory_iterator at("/sys/kernel/mm/hugepages", error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename();
    constexpr std::string_view kPrefix = "hugepages-";
    if (!name.starts_with(kPrefix)) continue;
    const std::uint64_t kib = std::strtoull(name.c_str() + kPrefix.size(), nullptr, 10);
    const std::uint64_t pages = std::strtoull(first_line((at->path() / "nr_hugepages").c_str()).c_str(), nullptr, 10);
    const std::string size = kib % (1024 * 1024) == 0 ? fmt::format("{}Gi", kib / (1024 * 1024))
                             : kib % 1024 == 0        ? fmt::format("{}Mi", kib / 1024)
                                                      : fmt::format("{}Ki", kib);
    found[size] = pages * kib * 1024;
  }
  return found;
}

// A line of /proc/meminfo, in bytes; nothing where there is none.
std::optional<std::uint64_t> meminfo(std::string_view key) {
  std::ifstream in("/proc/meminfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(key)) return std::strtoull(line.c_str() + key.size(), nullptr, 10) * 1024;
  }
  return {};
}

// Tasks there are, the fourth word of /proc/loadavg: "running/all".
std::uint64_t tasks() {
  std::ifstream in("/proc/loadavg");
  std::string word;
  for (int i = 0; i < 4; ++i) in >> word;
  return std::strtoull(word.c_str() + std::min(word.size(), word.find('/') + 1), nullptr, 10);
}

std::string go_architecture(const std::string& machine) {
  if (machine == "x86_64") return "amd64";
  if (machine == "aarch64") return "arm64";
  return machine;
}

}  // namespace

MachineFacts read_machine_facts(const std::string& state_dir) {
  MachineFacts facts;
  facts.cpus = static_cast<unsigned>(sysconf(_SC_NPROCESSORS_ONLN));
  struct sysinfo memory{};
  if (sysinfo(&memory) == 0) {
    facts.memory_bytes = std::uint64_t{memory.totalram} * memory.mem_unit;
    facts.swap_bytes = std::uint64_t{memory.totalswap} * memory.mem_unit;
  }
  facts.huge_pages = huge_pages();
  struct statvfs disk{};
  if (statvfs(state_dir.c_str(), &disk) == 0) facts.disk_bytes = std::uint64_t{disk.f_blocks} * disk.f_frsize;
  facts.machine_id = first_line("/etc/machine-id");
  facts.system_uuid = first_line("/sys/class/dmi/id/product_uuid");
  facts.boot_id = first_line("/proc/sys/kernel/random/boot_id");
  facts.os_image = os_image();
  utsname name{};
  if (uname(&name) == 0) {
    facts.kernel_version = name.release;
    facts.architecture = go_architecture(name.machine);
  }
  return facts;
}

Pressures read_pressures(const std::string& state_dir) {
  Pressures pressures;
  pressures.memory = meminfo("MemAvailable:").value_or(UINT64_MAX) < (100ULL << 20);
  struct statvfs disk{};
  if (statvfs(state_dir.c_str(), &disk) == 0) {
    pressures.disk = disk.f_bavail < disk.f_blocks / 10 || disk.f_favail < disk.f_files / 20;
  }
  const std::uint64_t limit = std::min(std::strtoull(first_line("/proc/sys/kernel/pid_max").c_str(), nullptr, 10),
                                       std::strtoull(first_line("/proc/sys/kernel/threads-max").c_str(), nullptr, 10));
  pressures.pids = limit != 0 && tasks() > limit - limit / 20;
  return pressures;
}

}  // namespace fairlead::node
