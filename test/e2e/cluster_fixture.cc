// SPDX-License-Identifier: Apache-2.0
#include "test/e2e/cluster_fixture.h"

#include <algorithm>
#include <fstream>
#include <iostream>

#include "test/kit/netns.h"

namespace fairlead::e2e {
namespace {

using namespace std::chrono_literals;
using testkit::ControlPlane;
using testkit::eventually;

constexpr auto kService = R"(
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  clusterIP: 10.96.0.80
  ports: [{name: http, port: 80, targetPort: http}]
)";

constexpr auto kDeployment = R"(
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 3}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: echo
        image: localhost/fairlead/echo:demo
        imagePullPolicy: IfNotPresent
        args: [serve, --http, "8080"]
        env: [{name: ROUND, value: "1"}]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
)";

}  // namespace

std::string pod_in_cluster(const std::string& name, const std::string& container, const std::string& spec) {
  return fmt::format(R"(
apiVersion: v1
kind: Pod
metadata: {{name: {}, labels: {{app: {}, tier: test}}, annotations: {{note: "two\nlines"}}}}
spec:
  {}
  containers:
  - {{name: main, image: "localhost/fairlead/echo:demo", imagePullPolicy: IfNotPresent, {}}}
)",
                     name, name, spec, container);
}

void ClusterFixture::start_plane() {
  auto plane = ControlPlane::start({.folder = std::filesystem::path(testkit::folder()) / "plane",
                                    .binary = FAIRLEAD_GO_BIN "/k8s",
                                    .controllers = true,
                                    .service_cidr = "10.96.0.0/16,fd00:10:96::/112",
                                    .address = kNodeV4,
                                    .cluster_cidr = "10.244.0.0/16,fd00:10:244::/48",
                                    .nodes = {"node"}});
  ASSERT_TRUE(plane) << plane.error().message();
  plane_.emplace(std::move(*plane));
  kubectl("apply -f " FAIRLEAD_SOURCE "/deploy/node-role.yaml");
}

void ClusterFixture::start_node(const std::filesystem::path& kubeconfig) {
  // Static pods beside the API server's: what apply() puts into the folder.
  const std::string statics = testkit::folder() + "/cluster/manifests";
  auto made = Node::make("cluster", FAIRLEAD_GO_BIN, {"--kubeconfig", kubeconfig, "--pod-manifest-path", statics});
  ASSERT_TRUE(made) << made.error().message();
  node_ = std::move(*made);
  const auto started = node_->start_agent();
  ASSERT_TRUE(started) << started.error().message();
  ASSERT_TRUE(eventually([] { return node_ready() == "True"; }, 20s))
      << at(object("/api/v1/nodes/node"), "/status/conditions", Json()).dump(1) << node_->agent_log();
  ASSERT_TRUE(eventually([] { return !object("/api/v1/namespaces/default/serviceaccounts/default").is_null(); }));
  apply(kService);
  apply(pod_in_cluster("client", R"(args: [serve, --http, "8080"])"));
  ASSERT_TRUE(eventually([] { return pod_ready("client"); }, 20s)) << describe("pod client");
}

void ClusterFixture::TearDownTestSuite() {
  node_.reset();
  plane_.reset();
  std::error_code error;
  std::filesystem::remove_all(std::filesystem::path(testkit::folder()) / "plane", error);
}

void ClusterFixture::SetUp() {
  ASSERT_NE(node_, nullptr);
  ASSERT_TRUE(node_->agent_runs()) << node_->agent_log();
}

void ClusterFixture::TearDown() {
  if (HasFailure() && node_) std::cerr << node_->agent_log();
}

std::string ClusterFixture::kubectl(const std::string& args) {
  const auto result = plane_->kubectl(args);
  EXPECT_EQ(result.code, 0) << args << ": " << result.output;
  return result.output;
}

void ClusterFixture::apply(const std::string& text) {
  const auto file = std::filesystem::path(testkit::folder()) / "apply.yaml";
  std::ofstream(file) << text;
  kubectl("apply -f " + file.string());
}

std::string ClusterFixture::describe(const std::string& what) {
  return plane_->kubectl("describe " + what).output;
}

Json ClusterFixture::object(const std::string& path) {
  return plane_->get(path);
}

Json ClusterFixture::pod(const std::string& name) {
  return object("/api/v1/namespaces/default/pods/" + name);
}

std::string ClusterFixture::node_ready() {
  for (const Json& each : at(object("/api/v1/nodes/node"), "/status/conditions", Json::array())) {
    if (each["type"] == "Ready") return each["status"];
  }
  return {};
}

Json ClusterFixture::at(const Json& object, const std::string& pointer, Json otherwise) {
  return object.is_object() ? object.value(Json::json_pointer(pointer), otherwise) : otherwise;
}

bool ClusterFixture::is_ready(const Json& pod) {
  return std::ranges::any_of(at(pod, "/status/conditions", Json::array()), [](const Json& condition) {
    return condition["type"] == "Ready" && condition["status"] == "True";
  });
}

bool ClusterFixture::pod_ready(const std::string& name) {
  return is_ready(pod(name));
}

std::vector<Json> ClusterFixture::web_pods() {
  const Json list = object("/api/v1/namespaces/default/pods?labelSelector=app%3Dweb");
  return at(list, "/items", Json::array()).get<std::vector<Json>>();
}

bool ClusterFixture::web_is(std::size_t ready) {
  const auto pods = web_pods();
  return pods.size() == ready && std::ranges::all_of(pods, is_ready);
}

void ClusterFixture::scale(int replicas) {
  kubectl(fmt::format("scale deployment web --replicas={}", replicas));
}

void ClusterFixture::deploy(int replicas) {
  apply(kDeployment);
  scale(replicas);
  ASSERT_TRUE(eventually([&] { return web_is(static_cast<std::size_t>(replicas)); }, 60s)) << kubectl("get pods");
}

std::set<std::string> ClusterFixture::web_addresses() {
  std::set<std::string> found;
  for (const Json& each : web_pods()) found.insert(at(each, "/status/podIP", "").get<std::string>());
  return found;
}

}  // namespace fairlead::e2e
