// SPDX-License-Identifier: Apache-2.0
// fairlead-agent: its command line, and what each of its commands does.
#include <cerrno>
#include <filesystem>
#include <iostream>

#include "agent/agent.h"
#include "agent/base/log.h"
#include "agent/base/version.h"
#include "agent/config/command_line.h"
#include "agent/config/configuration.h"
#include "agent/config/host_facts.h"
#include "agent/datapath/bpf_root.h"
#include "agent/network/install_cni.h"

namespace fairlead {
namespace {

using config::AgentConfiguration;

Result<> run_agent(const AgentConfiguration& configuration) {
  std::error_code error;
  for (const std::string& folder : {configuration.state_dir, configuration.run_dir}) {
    std::filesystem::create_directories(folder, error);
    if (error) return fail_errno(error.value(), "make folder " + folder);
  }
  Agent agent(configuration);
  FL_TRY(agent.build());
  return agent.run();
}

Result<> install_cni(const AgentConfiguration& configuration) {
  const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  return network::install_cni(configuration.cni_bin_dir, configuration.cni_conf_dir, configuration.run_dir,
                              here / "fairlead-cni");
}

// Refused while an agent runs: it holds the bpf root.
Result<> cleanup(const AgentConfiguration& configuration) {
  FL_LET(const datapath::BpfRoot root, datapath::BpfRoot::open(configuration.bpf_root));
  return root.clear();
}

int main_with(const config::CommandLine& line) {
  if (line.command == config::Command::kVersion) {
    std::cout << "fairlead-agent " << version() << '\n';
    return 0;
  }
  const auto configuration = config::load(line.settings, config::read_host_facts());
  if (!configuration) {
    std::cerr << "fairlead-agent: " << configuration.error().message() << '\n';
    return 2;
  }
  log::configure(configuration->log_level, configuration->log_format);
  for (const std::string& place : configuration->without_effect) {
    log::warn("agent", "field is without effect", {{"field", place}});
  }
  Result<> result;
  switch (line.command) {
    case config::Command::kRun:
      result = run_agent(*configuration);
      break;
    case config::Command::kInstallCni:
      result = install_cni(*configuration);
      break;
    case config::Command::kCleanup:
      result = cleanup(*configuration);
      break;
    case config::Command::kVersion:
      break;
  }
  if (result) return 0;
  log::error("agent", "ended", {{"error", result.error()}});
  return 1;
}

}  // namespace
}  // namespace fairlead

int main(int argc, char** argv) {
  const auto line = fairlead::config::parse_command_line(argc, argv, std::cout, std::cerr);
  return line ? fairlead::main_with(*line) : line.error();
}
