// SPDX-License-Identifier: Apache-2.0
#include "agent/base/request.h"

#include <gtest/gtest.h>

#include <thread>

namespace fairlead {
namespace {

using namespace std::chrono_literals;

TEST(Request, AnswersFromTheRespondersLoop) {
  auto [caller, responder] = make_request<int, int>();
  Loop loop;
  responder.attach(loop, [](int question, Reply<int> reply) { reply(question * 2); });
  std::jthread thread([&] { loop.run(); });
  const auto answer = caller.call_sync(21, 5s);
  ASSERT_TRUE(answer);
  EXPECT_EQ(*answer, 42);
  loop.stop();
}

TEST(Request, NoResponderAnswersUnavailable) {
  auto [caller, responder] = make_request<int, int>();
  const auto answer = caller.call_sync(1, 5s);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Code::kUnavailable);
}

TEST(Request, ADroppedReplyAnswersUnavailable) {
  auto [caller, responder] = make_request<int, int>();
  Loop loop;
  responder.attach(loop, [](int, Reply<int>) {});
  std::jthread thread([&] { loop.run(); });
  const auto answer = caller.call_sync(1, 5s);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Code::kUnavailable);
  loop.stop();
}

TEST(Request, AnAsynchronousCallTimesOutOnceAndALateAnswerIsDropped) {
  auto [caller, responder] = make_request<int, int>();
  Loop loop;
  std::vector<Reply<int>> kept;
  responder.attach(loop, [&](int, Reply<int> reply) { kept.push_back(std::move(reply)); });
  int calls = 0;
  Code code{};
  caller.call(loop, 1, 1ms, [&](Result<int> answer) {
    ++calls;
    code = answer.error().code;
    kept.at(0)(7);
    loop.stop();
  });
  loop.run();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(code, Code::kTimeout);
}

}  // namespace
}  // namespace fairlead
