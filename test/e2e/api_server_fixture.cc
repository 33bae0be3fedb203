// SPDX-License-Identifier: Apache-2.0
#include "test/e2e/api_server_fixture.h"

#include <fstream>
#include <tuple>
#include <utility>

#include "test/kit/netns.h"
#include "test/kit/own_node.h"

namespace fairlead {

using namespace std::chrono_literals;

ApiServer::Bed::Bed(ControlPlane started) : plane(std::move(started)) {
  auto [caller, responder] = make_request<Inspect, Json>();
  status = caller;
  kube::PodEnds ends;
  std::tie(statuses, ends.statuses) = make_channel<model::PodStatusUpdate>();
  std::tie(events, ends.events) = make_channel<model::EventNote>();
  std::tie(static_pods, ends.static_pods) = make_channel<model::StaticPod>();
  std::tie(wants, ends.config_wants) = make_channel<model::ConfigWant>();
  std::tie(tokens, ends.tokens) = make_request<model::TokenAsk, model::ServiceAccountToken>();
  ends.config_maps = tables.config_maps.writer(tables.source);
  ends.secrets = tables.secrets.writer(tables.source);
  source = std::make_unique<kube::ApiSource>(
      edge.loop(), kube::ApiSource::Deps{.access = kube::read_kubeconfig(plane.node_kubeconfig("node-a")).value(),
                                         .node_name = "node-a",
                                         .writers = tables.api_writers(),
                                         .pod_ends = std::move(ends),
                                         .inspect = std::move(responder),
                                         .registry = registry});
  reporter = std::make_unique<node::NodeReporter>(
      edge.loop(), clock,
      node::NodeReporter::Deps{.api = source->api(),
                               .runtime = runtime,
                               .node = tables.node.reader(),
                               .registry = registry,
                               .identity = {.name = "node-a",
                                            .addresses = {*IpAddress::parse("10.0.0.1"), *IpAddress::parse("fd00::1")},
                                            .agent_version = "v0.0.0"},
                               .facts = node::read_machine_facts("/"),
                               .pressures = [] { return node::Pressures{.disk = true}; },
                               .config = {.status_period = 500ms, .lease_period = 500ms, .needs_pod_cidrs = false}});
  reporter->start();
  source->start();
  edge.start();
}

void ApiServer::SetUpTestSuite() {
  folder_ = std::filesystem::path(testkit::folder()) / "plane";
  auto plane = ControlPlane::start({.folder = folder_, .binary = FAIRLEAD_GO_BIN "/k8s", .address = testkit::kNodeV4});
  ASSERT_TRUE(plane) << plane.error().message();
  const auto role = plane->kubectl("apply -f " FAIRLEAD_SOURCE "/deploy/node-role.yaml");
  ASSERT_EQ(role.code, 0) << role.output;
  bed_ = new Bed(std::move(*plane));
}

void ApiServer::TearDownTestSuite() {
  delete bed_;
  bed_ = nullptr;
  std::filesystem::remove_all(folder_);
}

std::string ApiServer::kubectl(const std::string& args) {
  const auto result = bed_->plane.kubectl(args);
  EXPECT_EQ(result.code, 0) << args << ": " << result.output;
  return result.output;
}

bool ApiServer::synced() {
  const Json answer = api_status();
  return answer.value("complete", false) && answer["failing"].empty();
}

void ApiServer::apply(const std::string& manifest) {
  std::ofstream(folder_ / "apply.yaml") << manifest;
  kubectl("apply -f " + (folder_ / "apply.yaml").string());
}

std::string ApiServer::make_pod(const std::string& name, const std::string& spec, const std::string& meta) {
  EXPECT_TRUE(eventually([] { return bed_->plane.kubectl("get node node-a").code == 0; }));
  EXPECT_TRUE(eventually([] {
    return bed_->plane.kubectl("get serviceaccount default").code == 0 ||
           bed_->plane.kubectl("create serviceaccount default").code == 0;
  }));
  apply(
      fmt::format("apiVersion: v1\nkind: Pod\nmetadata: {{name: {}{}}}\nspec: {{nodeName: node-a, "
                  "automountServiceAccountToken: false, containers: [{{name: c, image: x}}]{}}}\n",
                  name, meta, spec));
  std::string uid = field("pod " + name, ".metadata.uid");
  EXPECT_TRUE(eventually([&] { return bed_->tables.pods.get(uid) != nullptr; }));
  return uid;
}

std::string ApiServer::field(const std::string& object, const std::string& path) {
  const auto result = bed_->plane.kubectl("get " + object + " -o jsonpath='{" + path + "}'");
  return result.code == 0 ? result.output : "";
}

std::shared_ptr<const k8s::PodStatus> ApiServer::running(const std::string& ip) {
  auto status = std::make_shared<k8s::PodStatus>();
  status->set_phase("Running");
  status->set_podip(ip);
  status->add_podips()->set_ip(ip);
  return status;
}

Json ApiServer::api_status() {
  return bed_->status.call_sync({"api.status", {}}, 5s).value_or(Json());
}

}  // namespace fairlead
