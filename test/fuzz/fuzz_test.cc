// SPDX-License-Identifier: Apache-2.0
// Runs each fuzzer for FUZZ_SECONDS (60), all at the same time: first the corpus in the tree, then what mutation makes
// of it. A finding is a failure that shows the input; it belongs into the corpus once it is fixed.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
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
          {fmt::format("{}/{}_fuzzer", FAIRLEAD_FUZZERS, name), fmt::format("-max_total_time={}", duration().count()),
           "-max_len=8192", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1",
           "-artifact_prefix=" + (folder_ / name).string() + "/", found, fmt::format("{}/{}", FAIRLEAD_CORPUS, name)},
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
  const std::string tail = run_command("tail -n 60 '" + log.string() + "'").output;
  ASSERT_TRUE(ended) << tail;
  EXPECT_EQ(fuzzer.stop(), 0) << tail;
  for (const auto& finding : fs::directory_iterator(folder_ / GetParam())) {
    ADD_FAILURE() << finding.path() << ":\n" << run_command("xxd '" + finding.path().string() + "'").output;
  }
  EXPECT_NE(tail.find("stat::number_of_executed_units:"), std::string::npos) << tail;
  std::cout << run_command("grep -E 'stat::number_of_executed_units|DONE' '" + log.string() + "'").output;
}

INSTANTIATE_TEST_SUITE_P(Decoders, FuzzTest, testing::Values("manifest", "kubeconfig", "cni"),
                         [](const auto& name) { return std::string(name.param); });

}  // namespace
}  // namespace fairlead
