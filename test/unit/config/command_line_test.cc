// SPDX-License-Identifier: Apache-2.0
#include "agent/config/command_line.h"

#include <gtest/gtest.h>

#include <sstream>

#include "agent/config/fields.h"

namespace fairlead::config {
namespace {

struct Parsed {
  std::expected<CommandLine, int> line;
  std::string out;
  std::string err;
};

Parsed parse(std::vector<const char*> words) {
  words.insert(words.begin(), "fairlead-agent");
  std::ostringstream out, err;
  auto line = parse_command_line(static_cast<int>(words.size()), words.data(), out, err);
  return {std::move(line), out.str(), err.str()};
}

TEST(CommandLine, RunsByDefault) {
  const Parsed parsed = parse({"--config", "a.yaml", "--mode=node", "--pod-cidr", "10.0.0.0/24"});
  ASSERT_TRUE(parsed.line) << parsed.err;
  EXPECT_EQ(parsed.line->command, Command::kRun);
  EXPECT_EQ(parsed.line->settings.config_file, "a.yaml");
  EXPECT_EQ(parsed.line->settings.flags,
            (std::map<std::string, std::string>{{"mode", "node"}, {"pod-cidr", "10.0.0.0/24"}}));
}

TEST(CommandLine, SubcommandsTakeFlagsOnEitherSide) {
  for (const auto& words : {std::vector<const char*>{"install-cni", "--cni-bin-dir", "/b"},
                            std::vector<const char*>{"--cni-bin-dir", "/b", "install-cni"}}) {
    const Parsed parsed = parse(words);
    ASSERT_TRUE(parsed.line) << parsed.err;
    EXPECT_EQ(parsed.line->command, Command::kInstallCni);
    EXPECT_FALSE(parsed.line->settings.needs_source);
    EXPECT_EQ(parsed.line->settings.flags.at("cni-bin-dir"), "/b");
  }
  EXPECT_EQ(parse({"run"}).line->command, Command::kRun);
  EXPECT_EQ(parse({"cleanup"}).line->command, Command::kCleanup);
  EXPECT_EQ(parse({"version"}).line->command, Command::kVersion);
}

TEST(CommandLine, EveryFlagOfTheContractIsThere) {
  for (const char* flag : {"mode", "manifests", "kubeconfig", "node-name", "node-ip", "pod-cidr", "service-cidr",
                           "runtime-endpoint", "bpf-root", "cgroup-root", "state-dir", "run-dir", "cni-bin-dir",
                           "cni-conf-dir", "metrics-bind-address", "healthz-bind-address", "log-level", "log-format"}) {
    const Parsed parsed = parse({fmt::format("--{}=x", flag).c_str()});
    ASSERT_TRUE(parsed.line) << parsed.err;
    EXPECT_EQ(parsed.line->settings.flags.at(flag), "x");
  }
}

TEST(CommandLine, HelpIsWholeAndFits) {
  const Parsed parsed = parse({"--help"});
  ASSERT_FALSE(parsed.line);
  EXPECT_EQ(parsed.line.error(), 0);
  EXPECT_EQ(parsed.out, help_text());
  for (const Field& field : fields()) {
    if (field.flag.empty()) continue;
    EXPECT_NE(parsed.out.find("--" + field.flag + " "), std::string::npos) << field.flag;
    EXPECT_TRUE(field.help.ends_with('.')) << field.name;
  }
  EXPECT_NE(parsed.out.find("Default: /var/lib/fairlead."), std::string::npos);
  std::istringstream lines(parsed.out);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 98U) << line;
}

TEST(CommandLine, WrongUsageExitsTwoAndSaysWhy) {
  const struct {
    std::vector<const char*> words;
    std::string want;
  } cases[] = {
      {{"--pod-cdir=10.0.0.0/24"}, "--pod-cdir: no such flag; did you mean --pod-cidr?"},
      {{"--colour"}, "--colour: no such flag\n"},
      {{"--mode"}, "--mode"},
      {{"install"}, "install"},
      {{"--mode=node", "--mode=dataplane"}, "--mode"},
      {{"run", "cleanup"}, "cleanup"},
  };
  for (const auto& [words, want] : cases) {
    const Parsed parsed = parse(words);
    ASSERT_FALSE(parsed.line) << want;
    EXPECT_EQ(parsed.line.error(), 2);
    EXPECT_NE(parsed.err.find(want), std::string::npos) << parsed.err;
    EXPECT_TRUE(parsed.out.empty());
  }
}

}  // namespace
}  // namespace fairlead::config
