// SPDX-License-Identifier: Apache-2.0
// The BPF programs against the model (test/model): random packets, Services and time, the same to both, and the same
// answers wanted. FAIRLEAD_MODEL_SEED repeats a run, FAIRLEAD_MODEL_PACKETS makes it longer.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>
#include <utility>

#include "test/bpf/model_traffic.h"
#include "test/bpf/model_world.h"
#include "test/kit/netns.h"
#include "test/model/shrink.h"

namespace fairlead::model {
namespace {

constexpr std::uint64_t kFixedSeed = 20261124;
constexpr std::size_t kEpisode = 2000;       // steps from a fresh world
constexpr std::size_t kPackets = 2'000'000;  // steps of each seed: a minute for both
constexpr std::size_t kTold = 1'000'000;     // a long run says how far it is

std::optional<std::uint64_t> number_from(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? std::nullopt : std::optional(std::strtoull(text, nullptr, 10));
}

class ModelTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(testkit::enter_node_namespace("model"));
    auto world = World::open();
    ASSERT_TRUE(world) << world.error().message();
    world_ = std::move(*world);
  }
  static void TearDownTestSuite() { world_.reset(); }

  // The first difference over the steps from a fresh world; "" where there is none.
  static std::string replay(const std::vector<Step>& steps) {
    if (auto reset = world_->reset(); !reset) return reset.error().message();
    for (std::size_t i = 0; i < steps.size() && !world_->lost_track(); ++i) {
      if (std::string difference = world_->take(steps[i]); !difference.empty()) return difference;
    }
    return world_->compare_counters();
  }

  static std::string explain(std::vector<Step> steps) {
    steps = shrink<Step>(std::move(steps), [](const auto& rest) { return !replay(rest).empty(); });
    std::string text;
    for (const Step& step : steps) text += "  " + words(step) + "\n";
    if (!steps.empty()) text += fmt::format("the last: {:02x}\n", fmt::join(steps.back().frame, ""));
    return text + replay(steps);
  }

  static void run(std::uint64_t seed, std::size_t packets) {
    std::cout << "seed " << seed << ", " << packets << " steps" << std::endl;
    std::size_t taken = 0, held_up = 0;
    for (std::size_t done = 0; done < packets; done += kEpisode) {
      Traffic traffic(seed + done, world_->pods());
      ASSERT_TRUE(world_->reset());
      const std::string episode =
          fmt::format("FAIRLEAD_MODEL_SEED={} FAIRLEAD_MODEL_PACKETS={}", seed + done, kEpisode);
      std::vector<Step> steps;
      for (std::size_t i = 0; i < kEpisode && !world_->lost_track(); ++i) {
        steps.push_back(traffic.next());
        const std::string difference = world_->take(steps.back());
        if (!difference.empty()) {
          FAIL() << episode << ", step " << i << ": " << words(steps.back()) << "\n"
                 << difference << "in short:\n"
                 << explain(steps);
        }
        if (!world_->held_up()) traffic.saw(steps.back(), world_->outcome());
      }
      if (const std::string difference = world_->compare_counters(); !difference.empty()) {
        FAIL() << episode << ": " << difference << "in short:\n" << explain(steps);
      }
      const std::size_t before = std::exchange(taken, taken + steps.size() - (world_->held_up() ? 1 : 0));
      held_up += world_->held_up() ? 1 : 0;
      if (before / kTold != taken / kTold) std::cout << taken << " steps taken, no difference" << std::endl;
    }
    std::cout << taken << " steps taken; held up " << held_up << " times" << std::endl;
    EXPECT_GT(taken, packets / 2) << "the model loses track too often";
  }

  static inline std::unique_ptr<World> world_;
};

TEST_F(ModelTest, TheProgramsDoWhatTheDocumentsSay) {
  const std::size_t packets = number_from("FAIRLEAD_MODEL_PACKETS").value_or(kPackets);
  if (const auto seed = number_from("FAIRLEAD_MODEL_SEED")) {
    run(*seed, packets);
    return;
  }
  run(kFixedSeed, packets);
  if (!HasFatalFailure()) run(std::random_device{}(), packets);
}

}  // namespace
}  // namespace fairlead::model
