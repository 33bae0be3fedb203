// SPDX-License-Identifier: Apache-2.0
// Every BPF object loads and attaches on this kernel and on the oldest one that we support, and costs the verifier no
// more than it did: test/kernels/instructions.json is the record.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "agent/base/log.h"
#include "agent/datapath/sock_programs.h"
#include "test/kit/cgroup.h"
#include "test/kit/netns.h"
#include "test/kit/process.h"

namespace fairlead {
namespace {

constexpr std::uint32_t kInstructionLimit = 300'000;
constexpr double kJump = 1.2;

// "object/program" → instructions that the verifier walked.
using Instructions = std::map<std::string, std::uint32_t>;

// What fl-load-objects said.
struct Loaded {
  std::string kernel;
  bool loaded = false;
  std::string error = "no answer";
  std::set<std::string> objects;
  Instructions instructions;
};

Loaded parse(const std::string& output) {
  Loaded out;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    // A console has lines of others, too.
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object()) continue;
    if (json.contains("kernel")) out.kernel = json["kernel"];
    if (json.contains("loaded")) {
      out.loaded = json["loaded"];
      out.error = json["error"];
    }
    if (!json.contains("program")) continue;
    const std::string object = json["object"];
    out.objects.insert(object);
    out.instructions[object + "/" + json["program"].get<std::string>()] = json["instructions"];
  }
  return out;
}

std::set<std::string> all_objects() {
  std::istringstream names(FAIRLEAD_BPF_OBJECTS);
  return {std::istream_iterator<std::string>(names), {}};
}

// "6.1.0-56-cloud-amd64" → "6.1"
std::string minor_version(const std::string& release) {
  return release.substr(0, release.find('.', release.find('.') + 1));
}

// Compares with the record; what was measured lies beside it, ready to become the record.
void expect_as_recorded(const Loaded& measured) {
  nlohmann::json record;
  std::ifstream(FAIRLEAD_INSTRUCTIONS) >> record;
  const std::string version = minor_version(measured.kernel);
  if (!record.contains(version)) return;  // a kernel of its own on somebody's machine
  const Instructions recorded = record[version];
  const std::string fresh = FAIRLEAD_KERNEL_DIR "/instructions.json";
  nlohmann::json next = record;
  if (std::ifstream file(fresh); file) next = nlohmann::json::parse(file, nullptr, false);
  if (!next.is_object()) next = record;
  next[version] = measured.instructions;
  std::ofstream(fresh) << next.dump(2) << "\n";
  std::string differences;
  for (const auto& [program, instructions] : measured.instructions) {
    const auto before = recorded.find(program);
    if (before == recorded.end()) {
      differences += fmt::format("{}: {}, not in the record\n", program, instructions);
    } else if (instructions > before->second * kJump) {
      differences += fmt::format("{}: {}, recorded {}\n", program, instructions, before->second);
    }
  }
  EXPECT_EQ(differences, "") << "on " << version << ". Meant to be? cp " << fresh << " " << FAIRLEAD_INSTRUCTIONS;
}

void expect_all_loaded(const Loaded& measured, const std::string& output) {
  ASSERT_TRUE(measured.loaded) << measured.error << "\n" << output;
  EXPECT_EQ(measured.objects, all_objects()) << "fl-load-objects has to load each object below bpf/";
  for (const auto& [program, instructions] : measured.instructions) {
    EXPECT_GT(instructions, 0) << program;
    EXPECT_LT(instructions, kInstructionLimit) << program;
  }
  expect_as_recorded(measured);
}

TEST(Kernels, ThisOneLoadsEveryObject) {
  ASSERT_TRUE(testkit::enter_node_namespace("kernels"));
  auto root = datapath::find_cgroup2_root();
  ASSERT_TRUE(root) << root.error().message();
  auto cgroup = testkit::TestCgroup::make(*root, "kernels");
  ASSERT_TRUE(cgroup) << cgroup.error().message();
  const auto run =
      testkit::run_command(fmt::format("{} {}/fairlead {}", FAIRLEAD_LOADER, testkit::bpffs(), cgroup->path()));
  expect_all_loaded(parse(run.output), run.output);
}

TEST(Kernels, Debian12LoadsEveryObject) {
  const auto run = testkit::run_command(
      "timeout 120 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1536 -nodefaults -display none "
      "-serial stdio -no-reboot -kernel " FAIRLEAD_KERNEL_DIR "/vmlinuz -initrd " FAIRLEAD_KERNEL_DIR
      "/initramfs -append 'console=ttyS0 quiet panic=-1 no_timer_check' </dev/null");
  const Loaded measured = parse(run.output);
  EXPECT_EQ(minor_version(measured.kernel), "6.1");
  expect_all_loaded(measured, run.output);
}

}  // namespace
}  // namespace fairlead
