// SPDX-License-Identifier: Apache-2.0
// activeDeadlineSeconds in the pods domain.
#include "test/unit/pods/domain.h"

namespace fairlead::pods {
namespace {

k8s::Pod make_hurried_pod(std::int64_t seconds) {
  k8s::Pod pod = make_pod();
  pod.mutable_spec()->set_activedeadlineseconds(seconds);
  return pod;
}

class PodsDeadlineTest : public PodsDomainTest {
 protected:
  const k8s::PodStatus& status() const { return *agent->statuses.at("u1").status; }
  bool failed() { return phase() == "Failed"; }
};

TEST_F(PodsDeadlineTest, APodThatIsActiveForTooLongIsEnded) {
  run_pod(make_hurried_pod(60));
  clock.advance(58s);
  settle();
  EXPECT_TRUE(runtime.runs("web"));
  clock.advance(2s);
  desire(make_hurried_pod(60));  // any news: the timer is the real clock's
  ASSERT_TRUE(until([&] { return failed() && !runtime.runs("web"); }));
  EXPECT_EQ(status().reason(), "DeadlineExceeded");
  EXPECT_EQ(status().message(), "Pod was active on the node longer than the specified deadline");
  EXPECT_TRUE(agent->happened("DeadlineExceeded"));
  EXPECT_EQ(runtime.stops.at(0).second, 7);  // its own grace period
  settle();
  EXPECT_EQ(runtime.count("CreateContainer"), 1U) << "restartPolicy Always or not";
  EXPECT_TRUE(row().terminal);
  EXPECT_EQ(runtime.sandboxes.begin()->second.state(), cri::api::SANDBOX_NOTREADY);
}

TEST_F(PodsDeadlineTest, ItCountsFromThePodsStartWhateverTheAgentDid) {
  run_pod(make_hurried_pod(60));
  clock.advance(40s);
  start();
  ASSERT_TRUE(until([&] { return ready() && agent->complete(); }));
  EXPECT_FALSE(failed());
  agent.reset();
  clock.advance(20s);
  start();
  EXPECT_TRUE(until([&] { return failed() && !runtime.runs("web"); }));
}

TEST_F(PodsDeadlineTest, TheDeadlineMayBeSetLater) {
  run_pod();
  clock.advance(1h);
  settle();
  EXPECT_FALSE(failed());
  desire(make_hurried_pod(60));
  EXPECT_TRUE(until([&] { return failed(); }));
}

TEST_F(PodsDeadlineTest, WhatIsOverStaysAsItEnded) {
  k8s::Pod pod = make_hurried_pod(60);
  pod.mutable_spec()->set_restartpolicy("Never");
  run_pod(pod);
  runtime.exit("web");
  ASSERT_TRUE(until([&] { return phase() == "Succeeded"; }));
  clock.advance(1h);
  settle();
  EXPECT_EQ(phase(), "Succeeded");
}

}  // namespace
}  // namespace fairlead::pods
