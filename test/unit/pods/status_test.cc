// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/status.h"

#include <gtest/gtest.h>

#include "test/unit/pods/pod.h"

namespace fairlead::pods {
namespace {

constexpr auto kRunning = RunState::kRunning;
constexpr auto kExited = RunState::kExited;

struct Fixture {
  k8s::Pod pod = make_pod();
  PodRuntimeView view;
  PodHistory history;
  std::map<std::string, bool> ready;
  std::vector<IpAddress> node_ips{IpAddress::parse("192.0.2.1").value()};
  k8s::PodStatus status(std::int64_t now = 100, const k8s::PodStatus* last = nullptr) const {
    return compute_status({pod, view, history, ready, node_ips, last, "containerd", at(now)});
  }
};

const k8s::PodCondition& get(const k8s::PodStatus& status, const std::string& type) {
  for (const auto& one : status.conditions()) {
    if (one.type() == type) return one;
  }
  throw std::runtime_error("no condition " + type);
}

TEST(PodStatus, BeforeAnythingRuns) {
  Fixture f;
  auto status = f.status();
  EXPECT_EQ(status.phase(), "Pending");
  EXPECT_EQ(status.containerstatuses(0).state().waiting().reason(), "ContainerCreating");
  EXPECT_EQ(status.hostip(), "192.0.2.1");
  EXPECT_FALSE(status.has_podip());
  EXPECT_TRUE(condition(status, "PodScheduled"));
  EXPECT_TRUE(condition(status, "Initialized"));
  EXPECT_FALSE(condition(status, "PodReadyToStartContainers"));
  EXPECT_EQ(get(status, "Ready").reason(), "ContainersNotReady");
  EXPECT_EQ(get(status, "Ready").message(), "containers with unready status: [web]");

  f.history.failures["web"] = {.reason = "ErrImagePull", .message = "no such host", .count = 1, .until = at(200)};
  status = f.status();
  EXPECT_EQ(status.containerstatuses(0).state().waiting().reason(), "ErrImagePull");
  EXPECT_EQ(status.containerstatuses(0).state().waiting().message(), "no such host");
}

TEST(PodStatus, RunningAndReady) {
  Fixture f;
  f.view = {{sandbox()}, {container("web", kRunning)}};
  f.view.sandboxes[0].ips = {IpAddress::parse("10.0.0.7").value(), IpAddress::parse("fd00::7").value()};
  auto status = f.status();
  EXPECT_EQ(status.phase(), "Running");
  EXPECT_EQ(status.podip(), "10.0.0.7");
  EXPECT_EQ(status.podips(1).ip(), "fd00::7");
  EXPECT_TRUE(condition(status, "Ready"));         // no readiness probe
  EXPECT_TRUE(get(status, "Ready").has_reason());  // said to be empty: the server forgets what it was told before
  EXPECT_EQ(get(status, "Ready").reason(), "");
  EXPECT_EQ(status.containerstatuses(0).state().running().startedat().seconds(), 1'000'000);

  f.pod.mutable_spec()->mutable_containers(0)->mutable_readinessprobe();
  EXPECT_FALSE(condition(f.status(), "Ready"));
  f.ready["web0"] = true;
  EXPECT_TRUE(condition(f.status(), "Ready"));
  f.ready["web0"] = false;
  EXPECT_FALSE(condition(f.status(), "Ready"));

  f.pod.mutable_spec()->set_hostnetwork(true);
  EXPECT_EQ(f.status().podip(), "192.0.2.1");
}

TEST(PodStatus, InitContainers) {
  Fixture f;
  f.pod = make_pod("Always", {"web"}, {"i"});
  f.view = {{sandbox()}, {container("i", kRunning)}};
  auto status = f.status();
  EXPECT_EQ(status.phase(), "Pending");
  EXPECT_EQ(status.containerstatuses(0).state().waiting().reason(), "PodInitializing");
  EXPECT_EQ(get(status, "Initialized").reason(), "ContainersNotInitialized");
  EXPECT_EQ(get(status, "Initialized").message(), "containers with incomplete status: [i]");

  f.view.containers[0] = container("i", kExited);
  status = f.status();
  EXPECT_TRUE(condition(status, "Initialized"));
  EXPECT_TRUE(status.initcontainerstatuses(0).ready());
  EXPECT_EQ(status.initcontainerstatuses(0).state().terminated().reason(), "Completed");
  EXPECT_EQ(status.containerstatuses(0).state().waiting().reason(), "ContainerCreating");
}

TEST(PodStatus, CrashLoop) {
  Fixture f;
  f.view = {{sandbox()}, {container("web", kExited, 2, 3, 95, 2)}};
  const auto status = f.status();
  const auto& web = status.containerstatuses(0);
  EXPECT_EQ(status.phase(), "Running");
  EXPECT_EQ(web.state().waiting().reason(), "CrashLoopBackOff");
  EXPECT_EQ(web.state().waiting().message(), "back-off 20s restarting failed container=web pod=p_ns(u1)");
  EXPECT_EQ(web.laststate().terminated().exitcode(), 3);
  EXPECT_EQ(web.laststate().terminated().reason(), "Error");
  EXPECT_EQ(web.restartcount(), 2);
  EXPECT_FALSE(web.ready());

  f.view.containers.push_back(container("web", kRunning, 3));
  EXPECT_EQ(f.status().containerstatuses(0).laststate().terminated().exitcode(), 3);
  EXPECT_TRUE(f.status().containerstatuses(0).state().has_running());
}

TEST(PodStatus, TerminalPhases) {
  struct Row {
    const char* policy;
    int exit_code;
    const char* phase;
    const char* reason;
  };
  for (const Row& row : {Row{"Never", 0, "Succeeded", "PodCompleted"},
                         {"Never", 1, "Failed", "PodFailed"},
                         {"OnFailure", 0, "Succeeded", "PodCompleted"},
                         {"OnFailure", 1, "Running", "ContainersNotReady"},
                         {"Always", 0, "Running", "ContainersNotReady"}}) {
    Fixture f;
    f.pod = make_pod(row.policy);
    f.view = {{sandbox()}, {container("web", kExited, 0, row.exit_code)}};
    const auto status = f.status();
    EXPECT_EQ(status.phase(), row.phase) << row.policy << row.exit_code;
    EXPECT_EQ(get(status, "Ready").reason(), row.reason) << row.policy << row.exit_code;
  }
  Fixture f;
  f.history.refused = Failure{.reason = "UnsupportedField", .message = "spec.hostPID: not supported"};
  EXPECT_EQ(f.status().phase(), "Failed");
  EXPECT_EQ(f.status().reason(), "UnsupportedField");
  EXPECT_EQ(f.status().message(), "spec.hostPID: not supported");
}

TEST(PodStatus, TimesChangeOnlyWithWhatTheyTell) {
  Fixture f;
  f.view = {{sandbox()}, {container("web", kRunning)}};
  const auto first = f.status(100);
  const auto second = f.status(200, &first);
  EXPECT_EQ(first.SerializeAsString(), second.SerializeAsString());
  f.pod.mutable_spec()->mutable_containers(0)->mutable_readinessprobe();
  const auto third = f.status(300, &second);
  EXPECT_EQ(get(third, "Ready").lasttransitiontime().seconds(), 1'000'300);
  EXPECT_EQ(get(third, "Initialized").lasttransitiontime().seconds(), 1'000'100);
  EXPECT_EQ(third.starttime().seconds(), 1'000'000);  // the sandbox's
}

TEST(PodStatus, QosClass) {
  auto pod = make_pod();
  EXPECT_EQ(qos_class(pod.spec()), "BestEffort");
  auto& resources = *pod.mutable_spec()->mutable_containers(0)->mutable_resources();
  (*resources.mutable_requests())["cpu"].set_string("100m");
  EXPECT_EQ(qos_class(pod.spec()), "Burstable");
  (*resources.mutable_limits())["cpu"].set_string("0.1");
  (*resources.mutable_limits())["memory"].set_string("1Gi");
  EXPECT_EQ(qos_class(pod.spec()), "Guaranteed");
  *pod.mutable_spec()->add_containers() = make_container("b");
  EXPECT_EQ(qos_class(pod.spec()), "Burstable");
}

TEST(PodStatus, ReadinessGatesAreReadOffTheObject) {
  Fixture f;
  f.pod.mutable_spec()->add_readinessgates()->set_conditiontype("lb/attached");
  f.view = {{sandbox()}, {container("web", kRunning)}};
  auto status = f.status();
  EXPECT_TRUE(condition(status, "ContainersReady"));
  EXPECT_FALSE(condition(status, "Ready"));
  EXPECT_EQ(get(status, "Ready").reason(), "ReadinessGatesNotReady");
  EXPECT_EQ(get(status, "Ready").message(),
            "corresponding condition of pod readiness gate \"lb/attached\" does not exist.");

  auto& gate = *f.pod.mutable_status()->add_conditions();
  gate.set_type("lb/attached");
  gate.set_status("False");
  status = f.status();
  EXPECT_EQ(get(status, "Ready").message(),
            "the status of pod readiness gate \"lb/attached\" is not \"True\", but False");

  f.pod.mutable_status()->mutable_conditions(0)->set_status("True");
  status = f.status();
  EXPECT_TRUE(condition(status, "Ready"));
  EXPECT_THROW(get(status, "lb/attached"), std::runtime_error);  // its owner's to tell

  f.view.containers[0] = container("web", kExited);
  EXPECT_FALSE(condition(f.status(), "Ready"));
}

TEST(PodStatus, AStartupProbeComesFirst) {
  Fixture f;
  f.pod.mutable_spec()->mutable_containers(0)->mutable_startupprobe();
  f.view = {{sandbox()}, {container("web", kRunning)}};
  EXPECT_FALSE(f.status().containerstatuses(0).started());
  EXPECT_FALSE(condition(f.status(), "Ready"));
  f.history.started["web0"] = true;
  EXPECT_TRUE(f.status().containerstatuses(0).started());
  EXPECT_TRUE(condition(f.status(), "Ready"));
}

TEST(PodStatus, TheGenerationThatWasSeenIsTold) {
  Fixture f;
  EXPECT_FALSE(f.status().has_observedgeneration());  // of a static pod
  f.pod.mutable_metadata()->set_generation(3);
  EXPECT_EQ(f.status().observedgeneration(), 3);
  EXPECT_EQ(get(f.status(), "Ready").observedgeneration(), 3);
}

TEST(PodStatus, IdsHaveTheRuntimesScheme) {
  Fixture f;
  f.view = {{sandbox()}, {container("web", kRunning)}};
  EXPECT_EQ(f.status().containerstatuses(0).containerid(), "containerd://web0");
}

// What the API server is told before the object goes: every container's end, and a terminal phase.
TEST(PodStatus, AtItsEndAPodTellsHowEachContainerEnded) {
  struct Row {
    const char* what;
    std::vector<ContainerView> containers;
    const char* phase;
    int exit_code;
    const char* reason;
  };
  for (const Row& row : {Row{"still runs", {container("web", kRunning)}, "Running", 0, ""},
                         {"ended well", {container("web", kExited)}, "Succeeded", 0, "Completed"},
                         {"was killed", {container("web", kExited, 0, 143)}, "Failed", 143, "Error"},
                         {"never began", {}, "Failed", 137, "ContainerStatusUnknown"}}) {
    Fixture f;
    f.history.ending_grace_s = 7;
    f.view = {{sandbox()}, row.containers};
    const auto status = f.status();
    EXPECT_EQ(status.phase(), row.phase) << row.what;
    EXPECT_EQ(condition(status, "Ready"), status.phase() == "Running") << row.what;
    EXPECT_EQ(status.containerstatuses(0).state().terminated().exitcode(), row.exit_code) << row.what;
    EXPECT_EQ(status.containerstatuses(0).state().terminated().reason(), row.reason) << row.what;
  }
}

// An agent that restarts while it removes a pod finds nothing in the runtime: the API server's word stands.
TEST(PodStatus, WhatTheRuntimeHasLostIsToldFromTheLastStatus) {
  Fixture f;
  f.view = {{sandbox()}, {container("web", kExited, 2, 3)}};
  f.history.ending_grace_s = 7;
  auto last = f.status();
  f.view = {};
  auto status = f.status(200, &last);
  EXPECT_EQ(status.containerstatuses(0).state().terminated().exitcode(), 3);
  EXPECT_EQ(status.containerstatuses(0).restartcount(), 2);
  EXPECT_EQ(status.containerstatuses(0).containerid(), "containerd://web2");
  EXPECT_EQ(status.phase(), "Failed");
  EXPECT_EQ(status.starttime().seconds(), last.starttime().seconds());

  auto& state = *last.mutable_containerstatuses(0)->mutable_state();
  state.mutable_running();
  state.clear_terminated();
  status = f.status(200, &last);
  EXPECT_EQ(status.containerstatuses(0).state().terminated().exitcode(), 137);
  EXPECT_EQ(status.containerstatuses(0).state().terminated().reason(), "ContainerStatusUnknown");
}

}  // namespace
}  // namespace fairlead::pods
