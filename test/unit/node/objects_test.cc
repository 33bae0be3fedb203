// SPDX-License-Identifier: Apache-2.0
#include "agent/node/objects.h"

#include <gtest/gtest.h>

#include "agent/node/node.h"

namespace fairlead::node {
namespace {

using namespace std::chrono;

const Identity kNode{
    "n1", {*IpAddress::parse("10.0.0.1"), *IpAddress::parse("fd00::1")}, "containerd://1.6.20", "v0.1.0"};
const MachineFacts kFacts{.cpus = 2, .memory_bytes = 4096U * 1024, .architecture = "amd64"};
const WallTime kNow = sys_days{2026y / 11 / 24} + 15h + 4min + 5s + 6us;

TEST(NodeObjects, TheSchedulerFindsLabelsAndResources) {
  EXPECT_EQ(node_object(kNode, kFacts)["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
  const Json status = node_status_patch(kNode, kFacts, {}, kNow, kNow)["status"];
  EXPECT_EQ(status["allocatable"]["cpu"], "2");
  EXPECT_EQ(status["allocatable"]["memory"], "4096Ki");
  EXPECT_EQ(status["addresses"].size(), 3U);
  EXPECT_EQ(status["addresses"][1]["address"], "fd00::1");
  EXPECT_EQ(status["conditions"][0]["status"], "True");
}

TEST(NodeObjects, ALeaseNamesItsHolderAndOwner) {
  const Json lease = lease_object("n1", "u1", kNow, "7");
  EXPECT_EQ(lease["spec"]["holderIdentity"], "n1");
  EXPECT_EQ(lease["metadata"]["ownerReferences"][0]["uid"], "u1");
  EXPECT_EQ(lease["metadata"]["resourceVersion"], "7");
  EXPECT_EQ(lease["spec"]["renewTime"], "2026-11-24T15:04:05.000006Z");
  EXPECT_FALSE(lease_object("n1", "", kNow, "")["metadata"].contains("ownerReferences"));
}

TEST(NodeHealth, IsTheRuntimesWord) {
  EXPECT_FALSE(health_of(fail(Code::kUnavailable, "Status: no such socket")).ready);
  cri::api::StatusResponse status;
  auto* runtime = status.mutable_status()->add_conditions();
  runtime->set_type("RuntimeReady");
  runtime->set_status(true);
  EXPECT_FALSE(health_of(status).ready);
  auto* network = status.mutable_status()->add_conditions();
  network->set_type("NetworkReady");
  network->set_reason("NetworkPluginNotReady");
  EXPECT_NE(health_of(status).message.find("NetworkPluginNotReady"), std::string::npos);
  network->set_status(true);
  EXPECT_TRUE(health_of(status).ready);
}

}  // namespace
}  // namespace fairlead::node
