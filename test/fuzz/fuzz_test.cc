// SPDX-License-Identifier: Apache-2.0
// Runs each fuzzer for FUZZ_SECONDS (60), all at the same time: first the corpus in the tree, then what mutation makes
// of it. A finding is a failure that says in few lines why, where and with which input: of a long log only the end may
// be seen. It belongs into the corpus once it is fixed.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "test/kit/process.h"

namespace fairlead {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testkit::run_command;

std::chrono::seconds duration() {
  const char* given = std::getenv("FUZZ_SECONDS");
  return std::chrono::seconds(given == nullptr ? 60 : std::atoi(given));
}

constexpr std::size_t kReasonBytes = 400;  // of each line of it
constexpr std::size_t kFrames = 12;

bool has_one(std::string_view line, std::initializer_list<std::string_view> of) {
  return std::ranges::any_of(of, [&](std::string_view each) { return line.find(each) != line.npos; });
}

// "    #7 0x55d1 in f(int) /tree/build/test/fuzz/../../../agent/f.cc:7:5" as "f agent/f.cc:7:5"; empty: not the tree's.
std::string frame(const std::string& line) {
  constexpr std::string_view kRoot = "../../../";
  const std::size_t in = line.find(" in ");
  const std::size_t root = line.rfind(kRoot);
  if (!line.starts_with("    #") || in == line.npos || root == line.npos || has_one(line, {"/usr/"})) return {};
  std::string name;  // without what stands in brackets
  int depth = 0;
  for (const char c : line.substr(in + 4, line.rfind(' ', root) - in - 4)) {
    depth += c == '(' || c == '<' ? 1 : 0;
    if (depth == 0) name += c;
    depth -= c == ')' || c == '>' ? 1 : 0;
  }
  if (const std::size_t none = name.find("::::"); none != name.npos) name.erase(none, 2);  // an anonymous namespace
  return name + " " + line.substr(root + kRoot.size());
}

// What a fuzzer's log says of its finding: the lines that tell kind and reason, then the tree's own frames.
std::string reason(const fs::path& log) {
  std::string why;
  std::string stack;
  std::size_t frames = 0;
  std::ifstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    if (has_one(line, {"does not hold:", "runtime error:", "ERROR:", "terminate called", "what():", "Assertion"})) {
      why += line.substr(0, kReasonBytes) + "\n";
    } else if (const std::string at = frame(line); !at.empty() && ++frames <= kFrames) {
      stack += "  " + at + "\n";
    }
  }
  return why.empty() ? run_command("tail -n 20 '" + log.string() + "'").output : why + stack;
}

class FuzzTest : public testing::TestWithParam<const char*> {
 protected:
  static void SetUpTestSuite() {
    folder_ = fs::temp_directory_path() / ("fairlead-fuzz-" + std::to_string(getpid()));
    for (const char* name : {"manifest", "kubeconfig", "cni"}) {
      // What it finds interesting is kept beside the program, and speeds up the next run.
      const fs::path found = fs::path(FAIRLEAD_FUZZERS) / "corpus" / name;
      fs::create_directories(found);
      fs::create_directories(folder_ / name);
      auto started = testkit::Process::start(
          {"env", "UBSAN_OPTIONS=print_stacktrace=1", fmt::format("{}/{}_fuzzer", FAIRLEAD_FUZZERS, name),
           fmt::format("-max_total_time={}", duration().count()), "-max_len=8192", "-timeout=10", "-rss_limit_mb=2048",
           "-print_final_stats=1", "-artifact_prefix=" + (folder_ / name).string() + "/", found,
           fmt::format("{}/{}", FAIRLEAD_CORPUS, name)},
          folder_ / (std::string(name) + ".log"));
      ASSERT_TRUE(started) << started.error().message();
      running_.emplace(name, std::move(*started));
    }
  }
  static void TearDownTestSuite() {
    running_.clear();
    fs::remove_all(folder_);
  }

  static inline fs::path folder_;
  static inline std::map<std::string, testkit::Process> running_;
};

TEST_P(FuzzTest, FindsNothing) {
  ASSERT_TRUE(running_.contains(GetParam()));
  testkit::Process& fuzzer = running_.at(GetParam());
  const bool ended = testkit::eventually([&] { return !fuzzer.running(); }, duration() + 60s);
  const fs::path log = folder_ / (GetParam() + std::string(".log"));
  ASSERT_TRUE(ended) << "still running " << reason(log);
  const int code = fuzzer.stop();
  const std::string units = run_command("grep -aE 'stat::number_of_executed_units|DONE' '" + log.string() + "'").output;
  std::string findings;
  for (const auto& finding : fs::directory_iterator(folder_ / GetParam())) {
    const std::string file = finding.path().string();
    findings += fmt::format("{}, {} bytes, by `base64 -d | gunzip`:\n{}\n", finding.path().filename().string(),
                            finding.file_size(), run_command("gzip -9n < '" + file + "' | base64 -w 160").output);
  }
  EXPECT_TRUE(code == 0 && findings.empty() && units.find("executed_units") != units.npos)
      << "exit code " << code << ":\n"
      << reason(log) << findings;
  std::cout << units;
}

INSTANTIATE_TEST_SUITE_P(Decoders, FuzzTest, testing::Values("manifest", "kubeconfig", "cni"),
                         [](const auto& name) { return std::string(name.param); });

}  // namespace
}  // namespace fairlead
