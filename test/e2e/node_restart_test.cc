// SPDX-License-Identifier: Apache-2.0
// What ends and comes back under a whole node: the agent, the runtime, containers and sandboxes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "test/e2e/node_suite.h"
#include "test/kit/cgroup.h"

namespace fairlead::e2e {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;
using testkit::eventually;

TEST_P(NodeTest, AKilledAgentComesBackAndNothingNoticed) {
  start_web();
  const std::string tasks = node_->tasks();
  const Json endpoints = node_->ctl("endpoint list");
  const auto backends = node_->backends("web");
  auto load = node_->load("client", kWeb4, 500);
  ASSERT_TRUE(load) << load.error().message();
  node_->kill_agent();
  EXPECT_TRUE(load->goes_on(1));
  const auto started = node_->start_agent();
  ASSERT_TRUE(started) << started.error().message();
  for (const char* name : {"client", "web-1", "web-2", "web-3"}) expect_running(name);
  EXPECT_TRUE(load->goes_on(1));
  const Json report = load->end();
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report["failed"], 0) << report.dump();
  EXPECT_GE(report["new_connections"], 1000) << report.dump();
  EXPECT_EQ(node_->tasks(), tasks);
  EXPECT_EQ(node_->ctl("endpoint list"), endpoints);
  EXPECT_EQ(node_->backends("web"), backends);
  for (const char* name : {"client", "web-1", "web-2", "web-3"}) EXPECT_EQ(restarts(name), 0) << name;
}

TEST_P(NodeTest, AStoppedAgentLeavesPodsAndTheNextOneRemovesOrphans) {
  apply("stays", client());
  apply("goes", web("web-1"));
  expect_running("client");
  expect_running("web-1");
  const std::string tasks = node_->tasks();
  EXPECT_EQ(node_->stop_agent(), 0) << node_->agent_log();
  EXPECT_EQ(node_->tasks(), tasks);
  node_->withdraw("goes.yaml");
  const auto client = node_->containers("client");
  const auto started = node_->start_agent();
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_TRUE(
      eventually([] { return node_->containers("web-1", false).empty() && node_->all_containers().size() == 2; }, 20s))
      << node_->tasks();
  EXPECT_TRUE(eventually([] { return node_->ctl("endpoint list").size() == 1; }, 5s))
      << node_->ctl("endpoint list").dump();
  expect_running("client");
  EXPECT_EQ(node_->containers("client"), client);
}

// Killed at many moments of pods' starts and ends: what was begun is adopted, never made twice, never forgotten. A task
// whose creation lost its caller just before the answer is locked up in containerd, or lost to CRI, until containerd
// starts again (its issue 11037): nothing of it may run or hold up a pod, and then it goes.
TEST_P(NodeTest, AnAgentKilledAtAnyMomentLeaksNothing) {
  for (const auto after : {30ms, 90ms, 160ms, 260ms}) {
    for (const char* name : {"web-1", "web-2", "web-3"}) apply(name, web(name));
    EXPECT_FALSE(eventually([] { return !node_->agent_runs(); }, after));
    node_->kill_agent();
    const auto started = node_->start_agent();
    ASSERT_TRUE(started) << started.error().message();
    for (const char* name : {"web-1", "web-2", "web-3"}) {
      expect_running(name);
      EXPECT_EQ(node_->containers(name).size(), 1u) << name;
    }
    // A start that was cut off with its caller's connection is an exited container, and restarted as such.
    EXPECT_EQ(node_->running_tasks(), 6) << node_->tasks();
    EXPECT_TRUE(eventually([] { return !node_->tasks().contains("CREATED"); }, 5s)) << node_->tasks();
    EXPECT_EQ(node_->ctl("endpoint list").size(), 3u);
    node_->withdraw_all();
    EXPECT_FALSE(eventually([] { return !node_->agent_runs(); }, after));
    node_->kill_agent();
    const auto again = node_->start_agent();
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_TRUE(eventually([] { return node_->leftovers_but_containers().empty(); }, 20s)) << node_->leftovers();
    node_->kill_containerd();
    const auto runtime = node_->start_containerd();
    ASSERT_TRUE(runtime) << runtime.error().message();
    EXPECT_TRUE(eventually([] { return node_->leftovers().empty(); }, 20s)) << node_->leftovers();
  }
}

// Whoever put it there: a pod's cgroup goes, and what is in it.
TEST_P(NodeTest, APodsEndTakesWhatIsLeftInItsCgroup) {
  apply("client", client());
  expect_running("client");
  auto stray = testkit::Process::start({"sleep", "1000"}, node_->folder() / "stray.log");
  ASSERT_TRUE(stray) << stray.error().message();
  int entered = 0;
  for (const auto& root : testkit::cgroups_named(testkit::node_cgroup())) {
    const auto cgroup = root / "kubepods/besteffort" / ("pod" + node_->pod_text("client", "uid")) / "stray" / "inner";
    std::error_code error;
    std::filesystem::create_directories(cgroup, error);
    std::ofstream procs(cgroup / "cgroup.procs");
    entered += procs << stray->pid() << std::flush ? 1 : 0;
  }
  EXPECT_GE(entered, 2);
  node_->withdraw_all();
  EXPECT_TRUE(eventually([&] { return !stray->running(); }, 10s));
  EXPECT_TRUE(eventually([] { return node_->leftovers().empty(); }, 10s)) << node_->leftovers();
}

TEST_P(NodeTest, ARuntimeThatComesBackIsTakenUpAgain) {
  apply("client", client());
  expect_running("client");
  const std::string tasks = node_->tasks();
  node_->kill_containerd();
  EXPECT_TRUE(eventually([] { return !node_->ctl("status").value("ready", true); }, 10s))
      << node_->ctl("status").dump();
  apply("web", web("web-1"));
  const auto started = node_->start_containerd();
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_TRUE(eventually([] { return node_->ctl("status").value("ready", false); }, 20s))
      << node_->ctl("status").dump();
  expect_running("client");
  expect_running("web-1");
  EXPECT_EQ(restarts("client"), 0);
  for (const std::string& id : node_->containers("client")) EXPECT_THAT(tasks, HasSubstr(id));
}

TEST_P(NodeTest, AKilledContainerAndAKilledSandboxComeBack) {
  apply("service", kService);
  apply("web", web("web-1"));
  expect_running("web-1");
  const auto first = node_->containers("web-1");
  ASSERT_EQ(first.size(), 1u);
  node_->kill_task(*first.begin());
  EXPECT_TRUE(eventually([] { return restarts("web-1") == 1; }, 20s)) << node_->pod("web-1").dump();
  expect_running("web-1");
  EXPECT_TRUE(eventually([] { return names(node_->get("", kWeb4, 5)) == std::set<std::string>{"web-1"}; }, 5s));

  const std::string sandbox = node_->sandbox("web-1");
  ASSERT_NE(sandbox, "");
  node_->kill_task(sandbox);
  EXPECT_TRUE(eventually([&] { return !node_->sandbox("web-1").empty() && node_->sandbox("web-1") != sandbox; }, 20s))
      << node_->tasks();
  expect_running("web-1");
  EXPECT_EQ(node_->ctl("endpoint list").size(), 1u);
  EXPECT_TRUE(eventually([] { return names(node_->get("", kWeb4, 5)) == std::set<std::string>{"web-1"}; }, 5s));
}

TEST_P(NodeTest, HealthAndMetricsAreServed) {
  apply("client", client());
  expect_running("client");
  EXPECT_THAT(Node::fetch("http://127.0.0.1:10256/readyz"), HasSubstr("\"healthy\":true"));
  EXPECT_THAT(Node::fetch("http://127.0.0.1:10256/livez"), HasSubstr("\"healthy\":true"));
  const std::string metrics = Node::fetch("http://127.0.0.1:10249/metrics");
  EXPECT_THAT(metrics, HasSubstr("\nfairlead_ready 1\n"));
  for (const char* component : {"manifests", "pods", "services"}) {
    EXPECT_THAT(metrics, HasSubstr(fmt::format("\nfairlead_component_synced{{component=\"{}\"}} 1\n", component)));
  }
  EXPECT_THAT(metrics, HasSubstr("\nfairlead_ipam_addresses{family=\"4\",state=\"used\"} 1\n"));
}

TEST_P(NodeTest, CleanupTakesAllOutOfTheKernel) {
  EXPECT_EQ(node_->agent_does("cleanup").code, 1);  // refused: the agent runs
  EXPECT_TRUE(node_->agent_runs());
  EXPECT_EQ(node_->stop_agent(), 0) << node_->agent_log();
  const auto cleaned = node_->agent_does("cleanup");
  EXPECT_EQ(cleaned.code, 0) << cleaned.output;
  EXPECT_THAT(node_->pins(), IsEmpty());
  const auto started = node_->start_agent();
  ASSERT_TRUE(started) << started.error().message();
}

}  // namespace
}  // namespace fairlead::e2e
