// SPDX-License-Identifier: Apache-2.0
// The command line of fairlead-agent, and its help.
#pragma once

#include <iosfwd>

#include "agent/config/configuration.h"

namespace fairlead::config {

enum class Command { kRun, kInstallCni, kCleanup, kVersion };

struct CommandLine {
  Command command = Command::kRun;
  Settings settings;
};

// What to do; or, where that is all, the code to exit with: help went to `out` (0), an error to `err` (2).
std::expected<CommandLine, int> parse_command_line(int argc, const char* const* argv, std::ostream& out,
                                                   std::ostream& err);

// What --help prints: every flag in its group, wrapped at 96 columns.
std::string help_text();

}  // namespace fairlead::config
