// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/tokens.h"

#include <gtest/gtest.h>

#include "test/unit/pods/pod.h"

namespace fairlead::pods {
namespace {

using namespace std::chrono_literals;

TEST(TokenRenewal, AtFourFifthsOrAfterADay) {
  EXPECT_EQ(renewal(at(0), at(1000), 0), at(800));
  EXPECT_EQ(renewal(at(0), at(1000), 0.5), at(795));
  EXPECT_EQ(renewal(at(0), at(86400 * 10), 0), at(86400));
}

class TokensTest : public testing::Test {
 protected:
  TokensTest() {
    auto [caller, responder] = make_request<model::TokenAsk, model::ServiceAccountToken>();
    responder_ = std::move(responder);
    responder_.attach(loop, [this](const model::TokenAsk& ask, auto reply) {
      asked.push_back(ask);
      if (!refusal.empty()) return reply(fail(Code::kDenied, "{}", refusal));
      reply(model::ServiceAccountToken{"t" + std::to_string(asked.size()),
                                       clock.wall() + std::chrono::seconds(ask.expiration_s)});
    });
    tokens.emplace(loop, clock, caller);
    auto& projected = *pod.mutable_spec()->add_volumes()->mutable_volumesource()->mutable_projected();
    pod.mutable_spec()->mutable_volumes(0)->set_name("access");
    auto& own = *projected.add_sources()->mutable_serviceaccounttoken();
    own.set_expirationseconds(1000);
    own.set_path("token");
  }
  const k8s::ServiceAccountTokenProjection& projection(int i = 0) const {
    return pod.spec().volumes(0).volumesource().projected().sources(i).serviceaccounttoken();
  }
  Result<> renew() {
    std::optional<Result<>> answer;
    tokens->renew(pod, [&](Result<> result) { answer = std::move(result); });
    while (!answer) loop.poll();
    return *answer;
  }

  Loop loop;
  ManualClock clock;
  k8s::Pod pod = make_pod();
  std::vector<model::TokenAsk> asked;
  std::string refusal;
  std::optional<Tokens> tokens;

 private:
  Responder<model::TokenAsk, model::ServiceAccountToken> responder_;
};

TEST_F(TokensTest, AsksOnceForEachAudienceAndAgainInTime) {
  auto& vault = *pod.mutable_spec()->mutable_volumes(0)->mutable_volumesource()->mutable_projected()->add_sources();
  vault.mutable_serviceaccounttoken()->set_audience("vault");
  pod.mutable_spec()->set_serviceaccountname("robot");
  ASSERT_TRUE(renew());
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_EQ(asked[0].pod.uid, "u1");
  EXPECT_EQ(asked[0].service_account, "robot");
  EXPECT_TRUE(asked[0].audiences.empty());
  EXPECT_EQ(asked[0].expiration_s, 1000);
  EXPECT_EQ(asked[1].audiences, std::vector<std::string>{"vault"});
  EXPECT_EQ(asked[1].expiration_s, 3600);
  EXPECT_EQ(tokens->find(pod, projection()).value(), "t1");
  EXPECT_EQ(tokens->find(pod, projection(1)).value(), "t2");

  ASSERT_TRUE(renew());
  EXPECT_EQ(asked.size(), 2U);
  const auto due = *tokens->due("u1");
  EXPECT_LE(due, clock.wall() + 800s);
  EXPECT_GE(due, clock.wall() + 790s);
  clock.advance(800s);
  ASSERT_TRUE(renew());
  EXPECT_EQ(asked.size(), 3U);
  EXPECT_EQ(tokens->find(pod, projection()).value(), "t3");
  EXPECT_EQ(tokens->find(pod, projection(1)).value(), "t2");
  tokens->forget("u1");
  EXPECT_FALSE(tokens->due("u1"));
}

TEST_F(TokensTest, AnOldTokenServesUntilItEnds) {
  ASSERT_TRUE(renew());
  refusal = "no route";
  clock.advance(900s);
  ASSERT_TRUE(renew());
  EXPECT_EQ(tokens->find(pod, projection()).value(), "t1");
  EXPECT_EQ(*tokens->due("u1"), clock.wall() + 10s);
  clock.advance(100s);
  const auto renewed = renew();
  ASSERT_FALSE(renewed);
  EXPECT_EQ(renewed.error().message(), "volume 'access': failed to fetch token: no route");
  EXPECT_FALSE(tokens->find(pod, projection()));
}

TEST_F(TokensTest, WithoutAnApiServerThereIsNone) {
  tokens.emplace(loop, clock, std::nullopt);
  const auto renewed = renew();
  ASSERT_FALSE(renewed);
  EXPECT_EQ(renewed.error().message(),
            "volume 'access': a service account token comes from an API server, and this node has none");
  pod.mutable_spec()->clear_volumes();
  EXPECT_TRUE(renew());
}

}  // namespace
}  // namespace fairlead::pods
