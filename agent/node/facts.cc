// SPDX-License-Identifier: Apache-2.0
#include "agent/node/facts.h"

#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>

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
  if (sysinfo(&memory) == 0) facts.memory_bytes = std::uint64_t{memory.totalram} * memory.mem_unit;
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

}  // namespace fairlead::node
