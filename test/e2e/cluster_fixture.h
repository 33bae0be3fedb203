// SPDX-License-Identifier: Apache-2.0
// A node of a real cluster, for tests: etcd, kube-apiserver (Node and RBAC authorization, NodeRestriction), controller
// manager and scheduler on one side; the agent's own program and containerd on the other, with the rights of
// system:node:node and deploy/node-role.yaml, and nothing else.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "test/e2e/node_fixture.h"
#include "test/kit/control_plane.h"

namespace fairlead::e2e {

inline constexpr auto kWeb = "http://10.96.0.80/";

// A pod of one container, `container` being the rest of its fields, `spec` the pod's.
std::string pod_in_cluster(const std::string& name, const std::string& container, const std::string& spec = "");

// One cluster and one node for all cases of a suite, with a Service "web" and a pod "client".
class ClusterFixture : public testing::Test {
 protected:
  // The cluster without the node; then the node, which reaches the API server as `kubeconfig` says.
  static void start_plane();
  static void start_node(const std::filesystem::path& kubeconfig);
  static void TearDownTestSuite();
  void SetUp() override;
  void TearDown() override;

  // `kubectl …` must succeed; its output.
  static std::string kubectl(const std::string& args);
  static void apply(const std::string& text);
  static std::string describe(const std::string& what);

  static Json object(const std::string& path);
  static Json pod(const std::string& name);
  static std::string node_ready();
  static Json at(const Json& object, const std::string& pointer, Json otherwise = Json());
  static bool is_ready(const Json& pod);
  static bool pod_ready(const std::string& name);
  // Pods of the Deployment "web", as the API server has them.
  static std::vector<Json> web_pods();
  static bool web_is(std::size_t ready);
  static void scale(int replicas);
  static void deploy(int replicas);
  static std::set<std::string> web_addresses();

  static inline std::optional<testkit::ControlPlane> plane_;
  static inline std::unique_ptr<Node> node_;
};

}  // namespace fairlead::e2e
