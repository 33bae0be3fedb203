// SPDX-License-Identifier: Apache-2.0
// A node for tests of faults: two web pods and a client run all the time, and whatever breaks, they go on.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <set>
#include <string>

#include "test/e2e/manifests.h"
#include "test/e2e/node_fixture.h"
#include "test/kit/faulty_proxy.h"

namespace fairlead::e2e {

// One node with Debian's containerd for all cases of a suite; the agent reaches the runtime through `proxy_`, and its
// state folder is a small disk of its own. Every case begins and ends with exactly the base in force.
class FaultTest : public testing::Test {
 protected:
  static constexpr unsigned kDiskBytes = 2U << 20;

  static void SetUpTestSuite();
  static void TearDownTestSuite();
  void SetUp() override;
  void TearDown() override;

  static void apply(const std::string& name, const std::string& text) { node_->apply(name + ".yaml", text); }
  static bool runs(const std::string& name) { return node_->pod_is(name, "Running", "1/1"); }
  static void expect_running(const std::string& name);
  // The web pods answer through their Service, both of them, and nothing of the base was restarted.
  static void expect_in_force();
  static void restart_agent();
  // What `status` says of a failing object, by the beginning of its name; empty: nothing.
  static std::string failing(const std::string& object);
  // What of a pod did not come about, and why; empty as long as nobody knows the pod.
  static Json pod_failures(const std::string& name);
  static std::string state(const std::string& file) { return node_->folder() / "state" / file; }

  static inline std::unique_ptr<Node> node_;
  static inline std::optional<testkit::FaultyProxy> proxy_;
  static inline std::set<std::string> base_;  // ids of its containers and sandboxes
  static inline std::set<std::string> pins_;
};

}  // namespace fairlead::e2e
