// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/status_writer.h"

#include <gtest/gtest.h>
#include <k8s/pod.pb.h>

#include "agent/kube/api/api_source.h"
#include "test/unit/kube_api/scripted_server.h"

namespace fairlead::kube {
namespace {

using namespace std::chrono_literals;

std::shared_ptr<const k8s::PodStatus> status_of(const std::string& phase, const std::string& waits_for) {
  auto status = std::make_shared<k8s::PodStatus>();
  status->set_phase(phase);
  auto& container = *status->add_containerstatuses();
  container.set_name("main");
  if (!waits_for.empty()) container.mutable_state()->mutable_waiting()->set_reason(waits_for);
  return status;
}

TEST(PodStatus, APodIsBeingMadeUntilSomethingIsInItsWay) {
  EXPECT_TRUE(is_being_made(*status_of("Pending", "ContainerCreating")));
  EXPECT_TRUE(is_being_made(*status_of("Pending", "PodInitializing")));
  EXPECT_FALSE(is_being_made(*status_of("Pending", "ErrImagePull")));
  EXPECT_FALSE(is_being_made(*status_of("Pending", "")));
  EXPECT_FALSE(is_being_made(*status_of("Running", "ContainerCreating")));
  k8s::PodStatus with_init = *status_of("Pending", "PodInitializing");
  with_init.add_initcontainerstatuses()->mutable_state()->mutable_running();
  EXPECT_FALSE(is_being_made(with_init));
}

class PodStatusWriterTest : public ::testing::Test {
 protected:
  Loop loop;
  ScriptedServer server{
      [](const std::string&) { return ScriptedAnswer{.body = R"({"metadata": {"resourceVersion": "9"}})"}; }};
  HttpClient http{loop, [this] {
                    ClusterAccess access;
                    access.server = server.url();
                    return access;
                  }()};
  JsonApi api{http};
  metrics::Registry registry;
  std::pair<Sender<model::PodStatusUpdate>, Receiver<model::PodStatusUpdate>> channel =
      make_channel<model::PodStatusUpdate>();
  PodStatusWriter writer{loop, api, std::move(channel.second), [](const auto&) { return std::nullopt; }, registry};

  void tell(const std::string& phase, const std::string& waits_for, bool finished = false) {
    channel.first.send({.id = {"default", "p", "u1"},
                        .status = status_of(phase, waits_for),
                        .source = kApiSource,
                        .finished = finished});
  }
  // Runs the loop until the server has been asked so often; what it was asked last.
  std::string asked(std::size_t times) {
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (server.requests().size() < times && std::chrono::steady_clock::now() < limit) loop.poll();
    EXPECT_EQ(server.requests().size(), times);
    return server.requests().empty() ? "" : server.requests().back();
  }
};

TEST_F(PodStatusWriterTest, OfAPodThatRunsSoonNothingElseIsTold) {
  tell("Pending", "ContainerCreating");
  loop.poll();
  EXPECT_EQ(writer.pending(), 0U);
  tell("Running", "");
  EXPECT_NE(asked(1).find(R"("phase":"Running")"), std::string::npos);
}

TEST_F(PodStatusWriterTest, APodThatIsBeingMadeForLongIsTold) {
  tell("Pending", "ContainerCreating");
  EXPECT_NE(asked(1).find(R"("phase":"Pending")"), std::string::npos);
  tell("Running", "");
  EXPECT_NE(asked(2).find(R"("phase":"Running")"), std::string::npos);
}

TEST_F(PodStatusWriterTest, APodThatRunsNoMoreIsToldAtOnce) {
  tell("Running", "");
  asked(1);
  const auto limit = std::chrono::steady_clock::now() + 20s;
  while (writer.pending() > 0 && std::chrono::steady_clock::now() < limit) loop.poll();
  tell("Pending", "ContainerCreating");
  loop.poll();
  EXPECT_TRUE(writer.pending() == 1 || server.requests().size() == 2);  // under way, or answered already
  EXPECT_NE(asked(2).find(R"("phase":"Pending")"), std::string::npos);
}

TEST_F(PodStatusWriterTest, TheSameStatusIsToldOnce) {
  tell("Running", "");
  asked(1);
  const auto limit = std::chrono::steady_clock::now() + 20s;
  while (writer.pending() > 0 && std::chrono::steady_clock::now() < limit) loop.poll();
  tell("Running", "");
  loop.poll();
  EXPECT_EQ(writer.pending(), 0U);
  EXPECT_EQ(server.requests().size(), 1U);
}

class NoSink final : public ObjectSink {
 public:
  void begin_list() override {}
  void end_list() override {}
  Result<> put(const ObjectHead&, std::string_view) override { return {}; }
  void remove(const ObjectHead&) override {}
};

// As the node controller does with a node that it has not heard of: nobody but the node says otherwise again.
TEST_F(PodStatusWriterTest, WhatAnotherSaysOfConditionsIsPutRight) {
  const auto sink = writer.watch(std::make_unique<NoSink>());
  const auto shows = [&](const std::string& uid, const std::string& version, const std::string& ready) {
    k8s::Pod pod;
    auto& condition = *pod.mutable_status()->add_conditions();
    condition.set_type("Ready");
    condition.set_status(ready);
    ASSERT_TRUE(
        sink->put({.ns = "default", .name = "p", .uid = uid, .resource_version = version}, pod.SerializeAsString()));
  };
  const auto settle = [&] {
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (writer.pending() > 0 && std::chrono::steady_clock::now() < limit) loop.poll();
  };
  auto status = std::make_shared<k8s::PodStatus>(*status_of("Running", ""));
  auto& ready = *status->add_conditions();
  ready.set_type("Ready");
  ready.set_status("True");
  channel.first.send({.id = {"default", "p", "u1"}, .status = status, .source = kApiSource});
  asked(1);
  settle();
  shows("u1", "8", "False");  // from before it was told
  shows("u1", "9", "False");
  shows("u1", "10", "True");
  shows("u2", "11", "False");  // another pod of that name
  EXPECT_EQ(writer.pending(), 0U);
  shows("u1", "12", "False");
  EXPECT_EQ(writer.pending(), 1U);
  EXPECT_NE(asked(2).find(R"("status":"True")"), std::string::npos);
}

TEST_F(PodStatusWriterTest, APodThatNeverRanIsRemovedAfterItsLastWord) {
  tell("Pending", "ContainerCreating");
  loop.poll();
  tell("Pending", "ContainerCreating", true);
  EXPECT_TRUE(asked(2).starts_with("DELETE"));
}

}  // namespace
}  // namespace fairlead::kube
