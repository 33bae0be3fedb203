// SPDX-License-Identifier: Apache-2.0
// What the tests of policy with real agents share: a PolicyBed for each suite, whose cgroup the test is in, so that
// its sockets in pods are what the socket balancer translates.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <set>
#include <string>

#include "test/netns/policy_bed.h"
#include "test/netns/probes.h"

namespace fairlead {

inline std::string why(const auto& result) {
  return result ? std::string() : result.error().message();
}

// Runs `task` in the namespace and gives what it gave.
template <class Task>
auto in(const testkit::PodNetns& where, Task task) {
  std::optional<decltype(task())> out;
  where.run([&] { out.emplace(task()); });
  return std::move(*out);
}

class PolicyAgents : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    static const auto entered = testkit::enter_node_namespace("policy-agents");
    ASSERT_TRUE(entered) << why(entered);
    auto made = testkit::PolicyBed::make("policy-agents", {"--tunnel=none"});
    ASSERT_TRUE(made) << why(made);
    bed = std::move(*made);
    ASSERT_TRUE(bed->bed().cgroup().enter());
  }
  static void TearDownTestSuite() { bed.reset(); }
  void SetUp() override { ASSERT_NE(bed, nullptr) << "the bed is not whole"; }
  void TearDown() override {
    for (const std::string& key : policies_) EXPECT_TRUE(bed->delete_policy(key));
  }

  static void add_pod(unsigned node, const std::string& key, const testkit::Labels& labels,
                      std::vector<testkit::NamedPort> ports = {}) {
    const auto added = bed->add_pod(node, key, labels, std::move(ports));
    ASSERT_TRUE(added) << key << ": " << why(added);
  }
  void apply(const std::string& key, const std::string& spec) {
    const auto applied = bed->apply_policy(key, spec);
    ASSERT_TRUE(applied) << why(applied);
    policies_.insert(key);
  }

  static constexpr Family kFamilies[] = {Family::kV4, Family::kV6};
  static inline std::unique_ptr<testkit::PolicyBed> bed;
  std::set<std::string> policies_;
};

}  // namespace fairlead
