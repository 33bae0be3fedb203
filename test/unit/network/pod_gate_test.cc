// SPDX-License-Identifier: Apache-2.0
#include "agent/network/pod_gate.h"

#include <gtest/gtest.h>

#include <optional>

namespace fairlead::network {
namespace {

using namespace std::chrono_literals;

class PodGateTest : public testing::Test {
 protected:
  PodGateTest() { gate_.start(); }

  std::shared_ptr<std::optional<Result<>>> pass(const std::string& name, const std::string& uid) {
    auto answer = std::make_shared<std::optional<Result<>>>();
    gate_.pass({.pod_ns = "default", .pod_name = name, .pod_uid = uid},
               [answer](Result<> result) { *answer = std::move(result); });
    return answer;
  }
  void pod(const std::string& name, const std::string& uid) {
    writer_.upsert(uid, model::Pod{.id = {"default", name, uid}, .object = nullptr, .source = "api"});
    loop_.poll();
  }

  Loop loop_;
  state::Table<model::Pod> table_{{"api"}};
  TableWriter<model::Pod> writer_ = table_.writer("api");
  PodGate<model::Pod> gate_{loop_, table_.reader(), 20ms, "the API server has not told of it"};
};

TEST_F(PodGateTest, AKnownPodPassesAtOnce) {
  pod("web", "u1");
  EXPECT_TRUE(pass("web", "u1")->has_value());
  EXPECT_TRUE(pass("web", "")->has_value());  // a runtime that tells no uid
}

TEST_F(PodGateTest, AnAddWaitsForItsOwnPod) {
  pod("web", "u1");
  const auto answer = pass("web", "u2");  // made anew under its name
  pod("other", "u3");
  EXPECT_FALSE(answer->has_value());
  pod("web", "u2");
  ASSERT_TRUE(answer->has_value());
  EXPECT_TRUE(answer->value());
}

TEST_F(PodGateTest, AfterItsPatienceTheRuntimeShallTryAgain) {
  const auto answer = pass("web", "u1");
  writer_.erase("u1");
  while (!answer->has_value()) loop_.poll();
  ASSERT_FALSE(answer->value());
  EXPECT_EQ(answer->value().error().code, Code::kUnavailable);
  EXPECT_NE(answer->value().error().what.find("default/web"), std::string::npos);
  pod("web", "u1");
  EXPECT_TRUE(pass("web", "u1")->has_value());
  writer_.erase("u1");
  loop_.poll();
  EXPECT_FALSE(pass("web", "u1")->has_value());
}

}  // namespace
}  // namespace fairlead::network
