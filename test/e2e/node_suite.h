// SPDX-License-Identifier: Apache-2.0
// A whole node with the agent's own program: pods over each containerd, their network and their Services, from
// manifests. One node serves all cases of a containerd; each case ends with its pods gone and nothing of them left.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "test/e2e/manifests.h"
#include "test/e2e/node_fixture.h"

namespace fairlead::e2e {

class NodeTest : public testing::TestWithParam<const char*> {
 protected:
  static void TearDownTestSuite() { node_.reset(); }

  void SetUp() override {
    if (node_ == nullptr) {
      auto made = Node::make(*GetParam() == 0 ? "debian" : "v2", GetParam());
      ASSERT_TRUE(made) << made.error().message();
      node_ = std::move(*made);
      const auto started = node_->start_agent();
      ASSERT_TRUE(started) << started.error().message();
      pins_ = node_->pins();
    }
    ASSERT_TRUE(node_->agent_runs()) << node_->agent_log();
  }

  // After every case: what it made is gone.
  void TearDown() override {
    if (node_ == nullptr) return;
    node_->withdraw_all();
    EXPECT_TRUE(testkit::eventually(
        [] { return node_->ctl("pod list") == Json::array() && node_->leftovers().empty(); }, std::chrono::seconds(10)))
        << node_->leftovers() << node_->ctl("pod list").dump(1);
    EXPECT_EQ(node_->pins(), pins_);
    if (HasFailure()) std::cerr << node_->agent_log();
  }

  static void apply(const std::string& name, const std::string& text) { node_->apply(name + ".yaml", text); }
  static void expect_running(const std::string& name, const std::string& ready = "1/1") {
    EXPECT_TRUE(testkit::eventually([&] { return node_->pod_is(name, "Running", ready); }, std::chrono::seconds(20)))
        << node_->pod(name).dump(1);
  }
  static std::vector<std::string> ips(const std::string& name) {
    return node_->pod(name).value("ips", std::vector<std::string>());
  }
  static int restarts(const std::string& name) {
    const Json pod = node_->pod(name);
    return pod.is_object() ? pod.value("restarts", -1) : -1;
  }
  static std::set<std::string> names(const Answers& answers) {
    std::set<std::string> found;
    for (const auto& [name, times] : answers) found.insert(name);
    return found;
  }
  // Three web pods behind the Service, and the client.
  static void start_web() {
    apply("service", kService);
    for (const char* name : {"client", "web-1", "web-2", "web-3"}) {
      apply(name, name == std::string("client") ? client() : web(name));
    }
    for (const char* name : {"client", "web-1", "web-2", "web-3"}) expect_running(name);
    EXPECT_TRUE(testkit::eventually([] { return node_->backends("web").size() == 3; }, std::chrono::seconds(5)))
        << node_->ctl("backend list").dump();
  }

  static inline std::unique_ptr<Node> node_;
  static inline std::set<std::string> pins_;
};

}  // namespace fairlead::e2e
