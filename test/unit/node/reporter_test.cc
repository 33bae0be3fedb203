// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>

#include "agent/node/node.h"
#include "test/unit/kube_api/scripted_server.h"
#include "test/unit/pods/fake_runtime.h"

namespace fairlead::node {
namespace {

using namespace std::chrono_literals;

class NodeReporterTest : public ::testing::Test {
 protected:
  Loop loop;
  ManualClock clock;
  pods::FakeRuntime runtime{clock};
  kube::ScriptedServer server{
      [](const std::string&) { return kube::ScriptedAnswer{.body = R"({"metadata": {"uid": "u1"}})"}; }};
  kube::HttpClient http{loop, [this] {
                          kube::ClusterAccess access;
                          access.server = server.url();
                          return access;
                        }()};
  kube::JsonApi api{http};
  metrics::Registry registry;
  state::Table<model::Node> nodes{{"test"}};
  NodeReporter reporter{loop, clock,
                        NodeReporter::Deps{.api = api,
                                           .runtime = runtime,
                                           .node = nodes.reader(),
                                           .registry = registry,
                                           .identity = {.name = "n1", .addresses = {}, .agent_version = "v0"},
                                           .facts = {},
                                           .pressures = [] { return Pressures(); },
                                           .config = {}}};

  template <class Done>
  [[nodiscard]] bool until(Done done) {
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (!done()) {
      if (std::chrono::steady_clock::now() > limit) return false;
      loop.poll();
    }
    return true;
  }
  auto reports() {
    return std::ranges::count_if(
        server.requests(), [](const std::string& one) { return one.starts_with("PATCH /api/v1/nodes/n1/status"); });
  }
};

// However much happens meanwhile, the next look is after this one's report: no report overtakes another.
TEST_F(NodeReporterTest, OneLookAtATime) {
  runtime.held = {"Status"};
  reporter.start();
  ASSERT_TRUE(until([&] { return runtime.count("Status") == 1; }));
  const auto row = [](const char* cidr) { return model::Node{"n1", "u1", {}, {*Cidr::parse(cidr)}}; };
  nodes.writer("test").upsert("n1", row("10.0.0.0/24"));
  for (int i = 0; i < 50; ++i) loop.poll();
  nodes.writer("test").upsert("n1", {"n1", "u1", {}, {}});
  for (int i = 0; i < 50; ++i) loop.poll();
  nodes.writer("test").upsert("n1", row("10.0.1.0/24"));
  for (int i = 0; i < 50; ++i) loop.poll();
  EXPECT_EQ(runtime.count("Status"), 1U);
  EXPECT_EQ(reports(), 0);
  runtime.release();
  ASSERT_TRUE(until([&] { return runtime.count("Status") >= 2; }));
  EXPECT_EQ(reports(), 1);  // is answered before the next look begins
}

}  // namespace
}  // namespace fairlead::node
