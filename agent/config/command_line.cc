// SPDX-License-Identifier: Apache-2.0
#include "agent/config/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ostream>

#include "agent/config/fields.h"

namespace fairlead::config {
namespace {

struct Subcommand {
  const char* name;
  Command command;
  const char* help;
};
constexpr Subcommand kSubcommands[] = {
    {"run", Command::kRun, "Run the agent until SIGTERM. This is what happens without a command."},
    {"install-cni", Command::kInstallCni,
     "Install the CNI plugin and its configuration for the container runtime, and exit."},
    {"cleanup", Command::kCleanup, "Take away all that an agent of this bpf-root left in the kernel, and exit."},
    {"version", Command::kVersion, "Print the version, and exit."},
};

constexpr std::size_t kWidth = 96;
constexpr std::size_t kIndent = 38;

// `term` at the left, `text` wrapped at the right.
std::string entry(const std::string& term, const std::string& text) {
  std::string out;
  std::string line = fmt::format("  {:<{}}", term, kIndent - 2);
  if (line.size() > kIndent) {
    out = line + "\n";
    line = std::string(kIndent, ' ');
  }
  bool fresh = true;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!fresh && line.size() + 1 + word.size() > kWidth) {
      out += line + "\n";
      line = std::string(kIndent, ' ');
      fresh = true;
    }
    line += (fresh ? "" : " ") + word;
    fresh = false;
    at = end + 1;
  }
  return out + line + "\n";
}

std::string default_of(const Field& field) {
  if (!field.default_text.empty()) return field.default_text;
  const Json value = field.get(AgentConfiguration());
  return value.is_string() ? value.get<std::string>() : "";
}

// CLI11's own words, with what was probably meant where a flag does not exist.
std::string explain(const CLI::ParseError& error, const std::vector<std::string>& extras) {
  const std::string first = extras.empty() ? "" : extras.front();
  if (!first.starts_with("--")) return error.what();
  std::vector<std::string> flags{"config", "help"};
  for (const Field& field : fields()) {
    if (!field.flag.empty()) flags.push_back(field.flag);
  }
  const std::string word = first.substr(2, first.find('=') - 2);
  const std::string near = nearest(word, flags);
  return fmt::format("--{}: no such flag{}", word, near.empty() ? "" : fmt::format("; did you mean --{}?", near));
}

}  // namespace

std::string help_text() {
  std::string out =
      "fairlead-agent runs a Kubernetes node: its pods over CRI, their network and the Services in BPF.\n\n"
      "Usage: fairlead-agent [COMMAND] [--config FILE] [FLAGS]\n\nCommands:\n";
  for (const Subcommand& command : kSubcommands) out += entry(command.name, command.help);
  out += "\nGeneral:\n";
  out += entry(
      "--config FILE",
      "Read settings from this file: YAML, apiVersion fairlead.io/v1alpha1, kind AgentConfiguration, with the flags' "
      "names in camelCase. A flag wins over the file.");
  out += entry("-h, --help", "Print this help, and exit.");
  std::string group;
  for (const Field& field : fields()) {
    if (field.flag.empty()) continue;
    if (std::exchange(group, field.group) != field.group) out += fmt::format("\n{}:\n", field.group);
    const std::string value = default_of(field);
    out += entry(fmt::format("--{} {}", field.flag, field.placeholder), field.help);
    if (!value.empty()) out += entry("", fmt::format("Default: {}.", value));
  }
  out += "\nExit codes: 0 success, 1 failure while running, 2 wrong usage or configuration.\n";
  return out;
}

std::expected<CommandLine, int> parse_command_line(int argc, const char* const* argv, std::ostream& out,
                                                   std::ostream& err) {
  CLI::App app;
  app.formatter_fn([](const CLI::App*, const std::string&, CLI::AppFormatMode) { return help_text(); });
  app.require_subcommand(0, 1);
  CommandLine line;
  app.add_option("--config", line.settings.config_file);
  std::map<std::string, std::string> values;
  for (const Field& field : fields()) {
    if (!field.flag.empty()) app.add_option("--" + field.flag, values[field.flag]);
  }
  for (const Subcommand& command : kSubcommands) {
    app.add_subcommand(command.name)->fallthrough()->callback([&line, &command] { line.command = command.command; });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success&) {
    out << help_text();
    return std::unexpected(0);
  } catch (const CLI::ParseError& error) {
    err << "fairlead-agent: " << explain(error, app.remaining(true)) << "\nSee fairlead-agent --help.\n";
    return std::unexpected(2);
  }
  for (const auto& [flag, value] : values) {
    if (app.count("--" + flag) != 0) line.settings.flags[flag] = value;
  }
  line.settings.needs_source = line.command == Command::kRun;
  return line;
}

}  // namespace fairlead::config
