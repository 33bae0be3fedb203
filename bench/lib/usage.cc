// SPDX-License-Identifier: Apache-2.0
#include "bench/lib/usage.h"

#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace fairlead::bench {
namespace {

constexpr double kKibPerMib = 1024;

}  // namespace

Result<Usage> usage_of(pid_t pid) {
  Usage usage;
  std::ifstream stat(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(stat, text);
  const auto command_end = text.rfind(')');  // the command's name may hold anything
  if (command_end == text.npos) return fail(Code::kNotFound, "no process {}", pid);
  std::istringstream words(text.substr(command_end + 1));
  std::string word;
  double user = 0, system = 0;  // fields 14 and 15 of proc(5), 12 and 13 after the name
  for (int i = 1; i <= 11; ++i) words >> word;
  words >> user >> system;
  usage.cpu_seconds = (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    std::istringstream field(line);
    double kib = 0;
    field >> word >> kib;
    if (word == "VmRSS:") usage.memory_mib = kib / kKibPerMib;
    if (word == "VmHWM:") usage.peak_mib = kib / kKibPerMib;
  }
  return usage;
}

}  // namespace fairlead::bench
