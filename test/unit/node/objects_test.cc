// SPDX-License-Identifier: Apache-2.0
#include "agent/node/objects.h"

#include <gtest/gtest.h>

#include "agent/node/node.h"

namespace fairlead::node {
namespace {

using namespace std::chrono;

const Identity kNode{.name = "n1",
                     .addresses = {*IpAddress::parse("10.0.0.1"), *IpAddress::parse("fd00::1")},
                     .agent_version = "v0.1.0"};
const MachineFacts kFacts{.cpus = 2,
                          .memory_bytes = 4ULL << 30,
                          .disk_bytes = 1000 << 10,
                          .huge_pages = {{"1Gi", 1ULL << 30}, {"2Mi", 0}},
                          .architecture = "amd64"};
const WallTime kNow = sys_days{2026y / 11 / 24} + 15h + 4min + 5s + 6us;

TEST(NodeObjects, TheSchedulerFindsLabelsAndResources) {
  const Json node = node_object(kNode, kFacts);
  EXPECT_EQ(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
  EXPECT_TRUE(missing_labels(node, kNode, kFacts).is_null());
  Identity zoned = kNode;
  zoned.labels = {{"topology.kubernetes.io/zone", "a"}};
  EXPECT_EQ(missing_labels(node, zoned, kFacts), (Json{{"topology.kubernetes.io/zone", "a"}}));
  Json other = node;
  other["metadata"]["labels"]["kubernetes.io/arch"] = "arm64";
  EXPECT_EQ(missing_labels(other, kNode, kFacts), (Json{{"kubernetes.io/arch", "amd64"}}));
  EXPECT_EQ(missing_labels(Json::object(), kNode, kFacts).size(), 5U);
  const Json status = node_status(kNode, kFacts, {.version = "containerd://1.6.20"});
  EXPECT_EQ(status["capacity"], (Json{{"cpu", "2"},
                                      {"memory", "4194304Ki"},
                                      {"ephemeral-storage", "1000Ki"},
                                      {"pods", "110"},
                                      {"hugepages-1Gi", "1048576Ki"},
                                      {"hugepages-2Mi", "0"}}));
  // Less 100 Mi and the huge pages of memory, and less a tenth of the disk.
  EXPECT_EQ(status["allocatable"]["memory"], "3043328Ki");
  EXPECT_EQ(status["allocatable"]["ephemeral-storage"], "921600");
  EXPECT_EQ(status["allocatable"]["hugepages-1Gi"], "1048576Ki");
  EXPECT_EQ(status["addresses"].size(), 3U);
  EXPECT_EQ(status["addresses"][1]["address"], "fd00::1");
  EXPECT_EQ(status["nodeInfo"]["containerRuntimeVersion"], "containerd://1.6.20");
  EXPECT_FALSE(status.contains("features"));
}

TEST(NodeConditions, KeepTheTimeOfTheirLastChange) {
  const auto first = conditions_of({}, {}, {}, kNow);
  ASSERT_EQ(first.size(), 4U);
  EXPECT_EQ(first.back().type, "Ready");
  EXPECT_EQ(first.back().status, "True");
  EXPECT_EQ(first[1].reason, "KubeletHasNoDiskPressure");
  const auto later = conditions_of({false, "KubeletNotReady", "down"}, {.memory = true}, first, kNow + 1h);
  EXPECT_EQ(later.front().reason, "KubeletHasInsufficientMemory");
  EXPECT_EQ(later.front().since, kNow + 1h);
  EXPECT_EQ(later[1].since, kNow);
  EXPECT_EQ(later.back().since, kNow + 1h);
  Json node;
  for (const Condition& condition : later) node["status"]["conditions"].push_back(to_json(condition, kNow + 2h));
  const auto read = read_conditions(node);
  ASSERT_EQ(read.size(), 4U);
  EXPECT_EQ(read.back().message, "down");
  EXPECT_EQ(read.back().since, floor<seconds>(kNow + 1h));
  EXPECT_EQ(conditions_of({false, "KubeletNotReady", "down"}, {.memory = true}, read, kNow + 3h), read);
}

TEST(NodeFacts, TellWhatThisMachineIs) {
  const MachineFacts facts = read_machine_facts("/");
  EXPECT_GT(facts.cpus, 0U);
  EXPECT_GT(facts.disk_bytes, 0U);
  EXPECT_FALSE(facts.kernel_version.empty());
  EXPECT_FALSE(read_pressures("/").pids);
}

TEST(RuntimeFacts, AreReadFromTheRuntimesWords) {
  cri::api::StatusResponse status;
  status.add_runtime_handlers()->set_name("runc");
  status.mutable_runtime_handlers(0)->mutable_features()->set_user_namespaces(true);
  RuntimeFacts facts;
  read_runtime(status, facts);
  EXPECT_EQ(facts.handlers[0]["features"]["userNamespaces"], true);
  EXPECT_TRUE(facts.features.is_null());
  status.mutable_features()->set_supplemental_groups_policy(true);
  read_runtime(status, facts);
  EXPECT_EQ(facts.features["supplementalGroupsPolicy"], true);

  cri::api::ListImagesResponse images;
  for (int i = 0; i < 60; ++i) {
    auto* image = images.add_images();
    image->set_size(static_cast<std::uint64_t>(i));
    for (int tag = 0; tag < 7; ++tag) image->add_repo_tags(fmt::format("i{}:{}", i, tag));
    image->add_repo_digests("i@sha256:0");
  }
  const Json list = images_of(images);
  EXPECT_EQ(list.size(), 50U);
  EXPECT_EQ(list[0], (Json{{"names", {"i@sha256:0", "i59:0", "i59:1", "i59:2", "i59:3"}}, {"sizeBytes", 59}}));
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
