// SPDX-License-Identifier: Apache-2.0
#include "test/e2e/fault_fixture.h"

#include <sys/mount.h>

#include <iostream>

namespace fairlead::e2e {

using namespace std::chrono_literals;
using testkit::eventually;

void FaultTest::SetUpTestSuite() {
  auto made = Node::make(testing::UnitTest::GetInstance()->current_test_suite()->name(), "");
  ASSERT_TRUE(made) << made.error().message();
  node_ = std::move(*made);
  const std::string options = fmt::format("size={}", kDiskBytes);
  ASSERT_EQ(mount("tmpfs", state("").c_str(), "tmpfs", 0, options.c_str()), 0);
  const std::string socket = node_->folder() / "runtime.sock";
  auto proxy = testkit::FaultyProxy::start("unix:" + socket, "unix:" + node_->runtime_socket());
  ASSERT_TRUE(proxy) << proxy.error().message();
  proxy_.emplace(std::move(*proxy));
  node_->reach_runtime_at("unix://" + socket);
  const auto started = node_->start_agent();
  ASSERT_TRUE(started) << started.error().message();
  apply("service", kService);
  apply("client", client());
  for (const char* name : {"web-1", "web-2"}) apply(name, web(name));
  for (const char* name : {"client", "web-1", "web-2"}) expect_running(name);
  EXPECT_TRUE(eventually([] { return node_->backends("web").size() == 2; }, 10s));
  base_ = node_->all_containers();
  pins_ = node_->pins();
}

void FaultTest::TearDownTestSuite() {
  if (node_ == nullptr) return;
  node_->withdraw_all();
  EXPECT_TRUE(eventually([] { return node_->leftovers().empty(); }, 30s)) << node_->leftovers();
  EXPECT_EQ(node_->pins(), pins_);
  EXPECT_EQ(node_->stop_agent(), 0) << node_->agent_log();
  umount2(state("").c_str(), MNT_DETACH);
  proxy_.reset();
  node_.reset();
}

void FaultTest::SetUp() {
  ASSERT_NE(node_, nullptr);
  ASSERT_TRUE(node_->agent_runs()) << node_->agent_log();
  expect_in_force();
}

void FaultTest::TearDown() {
  if (node_ == nullptr) return;
  proxy_->pass();
  for (const char* name : {"extra", "more"}) {
    if (std::filesystem::exists(node_->folder() / "manifests" / (std::string(name) + ".yaml"))) {
      node_->withdraw(std::string(name) + ".yaml");
    }
  }
  EXPECT_TRUE(
      eventually([] { return node_->all_containers() == base_ && node_->ctl("endpoint list").size() == 3; }, 30s))
      << node_->tasks() << node_->ctl("endpoint list").dump(1) << node_->ctl("pod list").dump(1);
  EXPECT_TRUE(eventually([] { return node_->agent_ready(); }, 30s)) << node_->ctl("status").dump(1);
  expect_in_force();
  EXPECT_EQ(node_->pins(), pins_);
  if (HasFailure()) std::cerr << node_->agent_log();
}

void FaultTest::expect_running(const std::string& name) {
  EXPECT_TRUE(eventually([&] { return runs(name); }, 60s)) << node_->ctl("pod get " + name).dump(1);
}

void FaultTest::expect_in_force() {
  EXPECT_EQ(node_->backends("web").size(), 2U);
  std::set<std::string> names;
  for (const auto& [name, times] : node_->get("", kWeb4, 40)) names.insert(name);
  EXPECT_EQ(names, (std::set<std::string>{"web-1", "web-2"}));
  const auto all = node_->all_containers();
  for (const std::string& id : base_) EXPECT_TRUE(all.contains(id)) << id;
  const std::string tasks = node_->tasks();
  for (const std::string& id : base_) EXPECT_TRUE(tasks.contains(id + " RUNNING")) << tasks;
}

void FaultTest::restart_agent() {
  node_->kill_agent();
  const auto started = node_->start_agent();
  ASSERT_TRUE(started) << started.error().message();
}

Json FaultTest::pod_failures(const std::string& name) {
  const Json pod = node_->ctl("pod get " + name);
  return pod.is_object() ? pod.value("failures", Json::object()) : Json::object();
}

std::string FaultTest::failing(const std::string& object) {
  const Json status = node_->ctl("status");
  if (!status.is_object()) return {};
  const Json all = status.value("failing", Json::object());
  for (const auto& [name, why] : all.items()) {
    if (name.starts_with(object)) return why.get<std::string>();
  }
  return {};
}

}  // namespace fairlead::e2e
