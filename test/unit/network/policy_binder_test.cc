// SPDX-License-Identifier: Apache-2.0
#include "agent/network/policy_binder.h"

#include <gtest/gtest.h>

#include <optional>

namespace fairlead::network {
namespace {

using namespace std::chrono_literals;
using datapath::PodEndpoint;

// Endpoints as the pinned maps hold them.
class FakePrograms final : public datapath::PodPrograms {
 public:
  Result<> attach(std::uint32_t) override { return {}; }
  Result<bool> attached(std::uint32_t) override { return true; }
  Result<> upsert(const PodEndpoint& endpoint) override {
    if (full) return fail(Code::kExhausted, "full, as the test wants");
    records[endpoint.ifindex] = endpoint;
    return {};
  }
  Result<std::uint32_t> new_generation() override { return ++generation; }
  Result<> erase(std::uint32_t ifindex) override {
    records.erase(ifindex);
    return {};
  }
  std::vector<PodEndpoint> endpoints() const override {
    std::vector<PodEndpoint> all;
    for (const auto& [ifindex, record] : records) all.push_back(record);
    return all;
  }
  Result<std::vector<datapath::VerdictCount>> counters() const override {
    return std::vector<datapath::VerdictCount>();
  }

  std::map<std::uint32_t, PodEndpoint> records;
  std::uint32_t generation = 100;
  bool full = false;
};

class PolicyBinderTest : public testing::Test {
 protected:
  PolicyBinderTest() { restart(); }

  // As an agent that starts over the same maps.
  void restart() {
    binder_.emplace(loop_, table_.reader(), programs_, 20ms, [this](const model::PodPolicy& row) {
      changed_.push_back(row.pod.uid);
      if (programs_.records.contains(kDevice)) (void)binder_->put(web_, {.ifindex = kDevice});
    });
    binder_->start();
  }
  void row(std::uint32_t ingress, std::uint32_t egress, std::uint64_t revision = 1) {
    writer_.upsert("u1", model::PodPolicy{{"default", "web", "u1"}, ingress, egress, revision});
    loop_.poll();
  }
  void put() { ASSERT_TRUE(binder_->put(web_, {.ifindex = kDevice})); }
  const PodEndpoint& record() { return programs_.records.at(kDevice); }
  std::optional<Result<>> pass(const Attachment& attachment) {
    auto answer = std::make_shared<std::optional<Result<>>>();
    binder_->pass(attachment, [answer](Result<> result) { *answer = std::move(result); });
    last_ = answer;
    return *answer;
  }

  static constexpr std::uint32_t kDevice = 5;
  static constexpr std::uint32_t kNothing = ~0U;
  const Attachment web_{.pod_ns = "default", .pod_name = "web", .pod_uid = "u1"};
  Loop loop_;
  state::Table<model::PodPolicy> table_{{"policy"}};
  TableWriter<model::PodPolicy> writer_ = table_.writer("policy");
  FakePrograms programs_;
  std::vector<std::string> changed_;
  std::shared_ptr<std::optional<Result<>>> last_;
  std::optional<PolicyBinder> binder_;
};

TEST_F(PolicyBinderTest, AnAddWaitsForTheRulesOfItsPod) {
  EXPECT_FALSE(pass(web_));
  row(0, 0);
  ASSERT_TRUE(last_->has_value());
  EXPECT_TRUE(last_->value());
  EXPECT_TRUE(pass({.pod_ns = "default", .pod_name = "web"})) << "by its name where there is no uid";
  EXPECT_TRUE(pass({.container = "c"})) << "no pod at all";
  EXPECT_FALSE(pass({.pod_ns = "default", .pod_name = "web", .pod_uid = "u2"}));
  while (!last_->has_value()) loop_.poll();
  ASSERT_FALSE(last_->value());
  EXPECT_EQ(last_->value().error().code, Code::kUnavailable);
  EXPECT_NE(last_->value().error().what.find("default/web"), std::string::npos);
}

TEST_F(PolicyBinderTest, ANewEndpointHasItsRulesFromTheBeginning) {
  row(7, 0);
  put();
  EXPECT_EQ(record().ingress, (datapath::PolicyBinding{7, 101}));
  EXPECT_EQ(record().egress, datapath::PolicyBinding{});
  put();
  EXPECT_EQ(record().ingress.generation, 101U) << "nothing has changed";
}

TEST_F(PolicyBinderTest, ADirectionGetsANewGenerationWhereItsRulesChangeOrTheRowIsToBeJudgedAgain) {
  row(7, 8);
  put();
  row(9, 8);
  EXPECT_EQ(record().ingress, (datapath::PolicyBinding{9, 103}));
  EXPECT_EQ(record().egress, (datapath::PolicyBinding{8, 102})) << "unaffected connections pay nothing";
  row(9, 8, 2);
  EXPECT_EQ(record().ingress, (datapath::PolicyBinding{9, 104}));
  EXPECT_EQ(record().egress, (datapath::PolicyBinding{8, 105}));
  row(0, 8, 2);
  EXPECT_EQ(record().ingress.rules, 0U);
  EXPECT_EQ(record().egress.generation, 105U);
}

TEST_F(PolicyBinderTest, WithoutARowAnEndpointKeepsWhatItHad) {
  row(7, 8);
  put();
  const PodEndpoint before = record();
  writer_.erase("u1");
  loop_.poll();
  put();
  EXPECT_EQ(record(), before);
  restart();
  put();
  EXPECT_EQ(record(), before) << "until an agent that starts knows better";
  row(7, 8);
  EXPECT_EQ(record().ingress.rules, 7U);
  EXPECT_NE(record().ingress.generation, before.ingress.generation) << "judged once more: what changed is not known";
}

TEST_F(PolicyBinderTest, ANewRecordWithoutARowDeniesEverythingUntilItComes) {
  put();
  EXPECT_EQ(record().ingress.rules, kNothing);
  EXPECT_EQ(record().egress.rules, kNothing);
  row(0, 8);
  EXPECT_EQ(record().ingress.rules, 0U);
  EXPECT_EQ(record().egress.rules, 8U);
  ASSERT_TRUE(binder_->put({.container = "c"}, {.ifindex = kDevice + 1}));
  EXPECT_EQ(programs_.records.at(kDevice + 1).ingress.rules, 0U) << "nobody's pod";
}

TEST_F(PolicyBinderTest, AnEndpointThatIsGoneIsForgotten) {
  row(7, 8);
  put();
  ASSERT_TRUE(binder_->put(web_, {.ifindex = kDevice + 1}));
  EXPECT_EQ(binder_->size(), 2U);
  ASSERT_TRUE(binder_->erase(kDevice));
  EXPECT_EQ(binder_->size(), 1U);
  EXPECT_FALSE(programs_.records.contains(kDevice));
  EXPECT_TRUE(programs_.records.contains(kDevice + 1));
}

TEST_F(PolicyBinderTest, WhatCouldNotBeWrittenIsJudgedAgainNextTime) {
  row(7, 0);
  put();
  const std::uint32_t before = record().ingress.generation;
  programs_.full = true;
  row(7, 0, 2);
  EXPECT_EQ(record().ingress.generation, before);
  programs_.full = false;
  put();
  EXPECT_NE(record().ingress.generation, before);
}

}  // namespace
}  // namespace fairlead::network
