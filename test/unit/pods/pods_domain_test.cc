// SPDX-License-Identifier: Apache-2.0
// How the pods domain brings pods up and keeps them so.
#include "test/unit/pods/domain.h"

namespace fairlead::pods {
namespace {

TEST_F(PodsDomainTest, RunsADesiredPod) {
  auto pod = make_pod();
  (*pod.mutable_metadata()->mutable_labels())["app"] = "web";
  auto& port = *pod.mutable_spec()->mutable_containers(0)->add_ports();
  port.set_name("http");
  port.set_containerport(8080);
  port.set_protocol("TCP");
  run_pod(pod);

  ASSERT_EQ(runtime.sandboxes.size(), 1U);
  EXPECT_EQ(runtime.sandboxes.begin()->second.labels().at(kPodUidLabel), "u1");
  EXPECT_EQ(runtime.containers.size(), 1U);
  EXPECT_TRUE(runtime.runs("web"));
  EXPECT_EQ(row(), (model::LocalPod{.id = {"ns", "p", "u1"},
                                    .labels = {{"app", "web"}},
                                    .ips = {*IpAddress::parse("10.0.0.1")},
                                    .named_ports = {{"http", {8080, Protocol::kTcp}}},
                                    .ready = true,
                                    .serving = true}));
  ASSERT_TRUE(until([&] { return phase() == "Running"; }));
  EXPECT_EQ(agent->statuses["u1"].source, "test");
  EXPECT_EQ(agent->statuses["u1"].status->podip(), "10.0.0.1");
  EXPECT_FALSE(finished());

  settle();
  EXPECT_EQ(runtime.count("RunPodSandbox"), 1U);
  EXPECT_EQ(runtime.count("CreateContainer"), 1U);
}

TEST_F(PodsDomainTest, InitContainersRunFirst) {
  desire(make_pod("Always", {"web"}, {"first", "second"}));
  start();
  ASSERT_TRUE(until([&] { return runtime.runs("first"); }));
  settle();
  EXPECT_EQ(runtime.find("second"), nullptr);
  EXPECT_EQ(runtime.find("web"), nullptr);
  runtime.exit("first");
  ASSERT_TRUE(until([&] { return runtime.runs("second"); }));
  settle();
  EXPECT_EQ(runtime.find("web"), nullptr);
  EXPECT_FALSE(ready());
  runtime.exit("second");
  EXPECT_TRUE(until([&] { return ready(); }));
}

TEST_F(PodsDomainTest, AReadinessProbeGatesTheRow) {
  desire(make_probed_pod());
  runtime.held = {"ExecSync"};
  start();
  ASSERT_TRUE(until([&] { return runtime.count("ExecSync") == 1; }));
  settle();
  EXPECT_FALSE(ready());
  runtime.release();
  EXPECT_TRUE(until([&] { return ready(); }));
  runtime.exec_code = 1;
  EXPECT_TRUE(until([&] { return !ready() && !row().serving; }));
  EXPECT_TRUE(runtime.runs("web"));
}

TEST_F(PodsDomainTest, ADeadContainerIsUnreadyAtOnceAndComesBack) {
  run_pod();
  runtime.held = {"CreateContainer"};  // the new one takes its time
  runtime.exit("web", 1);
  ASSERT_TRUE(until([&] { return runtime.count("CreateContainer") == 2; }));
  EXPECT_FALSE(ready());
  runtime.release();
  ASSERT_TRUE(until([&] { return ready(); }));
  EXPECT_EQ(runtime.find("web")->config.metadata().attempt(), 1U);
  ASSERT_TRUE(
      until([&] { return phase() == "Running" && agent->statuses["u1"].status->containerstatuses(0).ready(); }));
  EXPECT_EQ(agent->statuses["u1"].status->containerstatuses(0).restartcount(), 1);
}

TEST_F(PodsDomainTest, ADeadSandboxIsReplaced) {
  run_pod();
  runtime.sandboxes["s1"].set_state(api::SANDBOX_NOTREADY);
  runtime.exit("web", 137);
  ASSERT_TRUE(until([&] { return ready() && row().ips.front() == *IpAddress::parse("10.0.0.3"); }));
  EXPECT_EQ(runtime.find("web")->sandbox_id, "s3");
  EXPECT_EQ(runtime.sandboxes["s3"].metadata().attempt(), 1U);
}

TEST_F(PodsDomainTest, ACrashLoopWaits) {
  run_pod();
  runtime.exit("web", 1);
  ASSERT_TRUE(until([&] { return runtime.count("CreateContainer") == 2 && ready(); }));
  runtime.exit("web", 1);
  ASSERT_TRUE(until([&] { return !ready(); }));
  settle();
  EXPECT_EQ(runtime.count("CreateContainer"), 2U);
  clock.advance(10s);
  desire(make_pod());  // the timer is the machine's own: whatever makes it plan again will do
  EXPECT_TRUE(until([&] { return runtime.count("CreateContainer") == 3; }));
}

TEST_F(PodsDomainTest, EventsSpareTheLists) {
  config.relist = config.relist_with_events = 1h;
  runtime.tells_events = true;
  run_pod();
  settle_events();
  runtime.exit("web", 1);
  EXPECT_TRUE(until([&] { return runtime.runs("web") && runtime.count("CreateContainer") == 2; }));
}

// What the agent itself did needs no look where an event shows it, and nothing is listed for it.
TEST_F(PodsDomainTest, APodTakesFourCalls) {
  config.relist = config.relist_with_events = 1h;
  runtime.tells_events = true;
  desire_is_complete();
  start();
  // At the beginning, once all is adopted, and for what only the disk knows.
  ASSERT_TRUE(until([&] { return runtime.count("ListContainers") == 3; }));
  settle_events();
  runtime.calls.clear();
  desire(make_pod());
  ASSERT_TRUE(until([&] { return ready(); }));
  settle_events();
  EXPECT_EQ(runtime.calls,
            (std::vector<std::string>{"RunPodSandbox", "ImageStatus", "CreateContainer", "StartContainer"}));
}

// Without events, what an action changed is asked for.
TEST_F(PodsDomainTest, WhatAnActionChangedIsLookedAt) {
  config.relist = config.relist_with_events = 1h;
  desire_is_complete();
  start();
  ASSERT_TRUE(until([&] { return runtime.count("ListContainers") == 4; }));  // and when there are no events
  settle_events();
  runtime.calls.clear();
  desire(make_pod());
  ASSERT_TRUE(until([&] { return ready(); }));
  EXPECT_EQ(runtime.calls, (std::vector<std::string>{"RunPodSandbox", "PodSandboxStatus", "ImageStatus",
                                                     "CreateContainer", "StartContainer", "ContainerStatus"}));
}

TEST_F(PodsDomainTest, AFailedCallIsTriedAgainLater) {
  runtime.errors["RunPodSandbox"] = Error{Code::kUnavailable, "no network"};
  desire(make_pod());
  start();
  ASSERT_TRUE(until([&] { return runtime.count("RunPodSandbox") == 1; }));
  runtime.errors.clear();
  settle();
  EXPECT_EQ(runtime.count("RunPodSandbox"), 1U);
  EXPECT_EQ(phase(), "Pending");
  clock.advance(10s);
  desire(make_pod());
  EXPECT_TRUE(until([&] { return ready(); }));
}

TEST_F(PodsDomainTest, ARefusedFieldFailsThePod) {
  auto pod = make_pod();
  pod.mutable_spec()->set_runtimeclassname("other");
  desire(pod);
  desire_is_complete();
  start();
  ASSERT_TRUE(until([&] { return phase() == "Failed"; }));
  EXPECT_EQ(agent->statuses["u1"].status->reason(), "UnsupportedField");
  EXPECT_NE(agent->statuses["u1"].status->message().find("runtimeClassName"), std::string::npos);
  ASSERT_TRUE(until([&] { return agent->complete(); }));
  settle();
  EXPECT_EQ(runtime.count("RunPodSandbox"), 0U);
  EXPECT_TRUE(row().terminal);
  undesire();
  EXPECT_TRUE(until([&] { return finished(); }));
}

TEST_F(PodsDomainTest, WaitsForAConfigMap) {
  auto pod = make_pod();
  auto& env = *pod.mutable_spec()->mutable_containers(0)->add_env();
  env.set_name("COLOUR");
  auto& from = *env.mutable_valuefrom()->mutable_configmapkeyref();
  from.mutable_localobjectreference()->set_name("settings");
  from.set_key("colour");
  desire(pod);
  start();
  ASSERT_TRUE(until([&] {
    const auto at = agent->statuses.find("u1");
    return at != agent->statuses.end() &&
           at->second.status->containerstatuses(0).state().waiting().reason() == "CreateContainerConfigError";
  }));
  EXPECT_EQ(runtime.count("CreateContainer"), 0U);
  config_maps.writer("test").upsert("ns/settings", {.id = {"ns", "settings", ""}, .data = {{"colour", "blue"}}});
  ASSERT_TRUE(until([&] { return ready(); }));
  const auto& envs = runtime.find("web")->config.envs();
  EXPECT_TRUE(std::ranges::any_of(envs, [](const auto& e) { return e.key() == "COLOUR" && e.value() == "blue"; }));
}

TEST_F(PodsDomainTest, TellsOfItself) {
  desire(make_pod());
  start();
  std::optional<Result<Json>> answer;
  const auto ask = [&](const std::string& op, const Json& args) {
    answer.reset();
    agent->inspect.call(loop, {op, args}, 10s, [&](Result<Json> result) { answer = std::move(result); });
    EXPECT_TRUE(until([&] { return answer.has_value(); }));
    return answer->value_or(Json());
  };
  ASSERT_TRUE(until([&] { return ready(); }));
  EXPECT_EQ(ask("pods.sync", Json::object())["missing"], Json::array({"Pod"}));
  desire_is_complete();
  ASSERT_TRUE(until([&] { return agent->complete(); }));
  EXPECT_EQ(ask("pods.sync", Json::object())["synced"], true);
  EXPECT_EQ(ask("pod.list", {{"namespace", "ns"}})[0]["ready"], "1/1");
  EXPECT_EQ(ask("pod.list", {{"namespace", "other"}}), Json::array());
  EXPECT_EQ(ask("pod.get", {{"namespace", "ns"}, {"name", "p"}})["sandboxes"].size(), 1U);
  ask("pod.get", {{"namespace", "ns"}, {"name", "q"}});
  EXPECT_EQ(answer->error().code, Code::kNotFound);
}

}  // namespace
}  // namespace fairlead::pods
