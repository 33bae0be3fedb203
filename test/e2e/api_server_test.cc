// SPDX-License-Identifier: Apache-2.0
// The API edge and the node's word against a real kube-apiserver, under the node's own rights:
//
//   ApiSource + NodeReporter (system:node:node-a) ── TLS, HTTP/2, protobuf ── kube-apiserver ── etcd
#include <gtest/gtest.h>
#include <k8s/pod.pb.h>

#include <filesystem>

#include "agent/base/loop_thread.h"
#include "agent/kube/api/api_source.h"
#include "agent/node/node.h"
#include "agent/state/table.h"
#include "test/kit/control_plane.h"

namespace fairlead {
namespace {

using namespace std::chrono_literals;
using testkit::ControlPlane;
using testkit::eventually;

// A runtime of which only its health is asked.
class HealthyRuntime final : public cri::Runtime {
 public:
#define FL_FAKE(Name)                                                                                           \
  void call(Loop& loop, cri::api::Name##Request, Duration, cri::Done<cri::api::Name##Response> done) override { \
    loop.post([done = std::move(done)] { done(answer(static_cast<cri::api::Name##Response*>(nullptr))); });     \
  }
  FL_CRI_CALLS(FL_FAKE)
#undef FL_FAKE
  void follow_events(Loop&, std::function<void(cri::api::ContainerEventResponse)>,
                     std::function<void(StreamEnd, Error)>) override {}

 private:
  template <class Response>
  static Result<Response> answer(Response*) {
    return fail(Code::kUnavailable, "not asked in this test");
  }
  static Result<cri::api::VersionResponse> answer(cri::api::VersionResponse*) {
    cri::api::VersionResponse version;
    version.set_runtime_name("containerd");
    version.set_runtime_version("9.9");
    return version;
  }
  static Result<cri::api::StatusResponse> answer(cri::api::StatusResponse*) {
    cri::api::StatusResponse status;
    for (const char* type : {"RuntimeReady", "NetworkReady"}) {
      auto* condition = status.mutable_status()->add_conditions();
      condition->set_type(type);
      condition->set_status(true);
    }
    return status;
  }
};

// One control plane and one node for all cases: starting it costs seconds.
class ApiServer : public testing::Test {
 protected:
  struct Bed {
    ControlPlane plane;
    SystemClock clock;
    metrics::Registry registry;
    state::Table<model::Service> services{{"api"}};
    state::Table<model::EndpointSlice> slices{{"api"}};
    state::Table<model::Pod> pods{{"api"}};
    state::Table<model::Node> node{{"api"}};
    HealthyRuntime runtime;
    Sender<model::PodStatusUpdate> statuses;
    Caller<Inspect, Json> status;
    LoopThread edge{"edge"};
    std::unique_ptr<kube::ApiSource> source;
    std::unique_ptr<node::NodeReporter> reporter;

    explicit Bed(ControlPlane started) : plane(std::move(started)) {
      auto [caller, responder] = make_request<Inspect, Json>();
      auto [sender, receiver] = make_channel<model::PodStatusUpdate>();
      status = caller;
      statuses = sender;
      source = std::make_unique<kube::ApiSource>(
          edge.loop(), kube::ApiSource::Deps{.access = kube::read_kubeconfig(plane.node_kubeconfig("node-a")).value(),
                                             .node_name = "node-a",
                                             .writers = {services.writer("api"), slices.writer("api"),
                                                         pods.writer("api"), node.writer("api")},
                                             .statuses = std::move(receiver),
                                             .inspect = std::move(responder),
                                             .registry = registry});
      reporter = std::make_unique<node::NodeReporter>(
          edge.loop(), clock,
          node::NodeReporter::Deps{
              .api = source->api(),
              .runtime = runtime,
              .node = node.reader(),
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
    ~Bed() { edge.join(); }
  };

  static void SetUpTestSuite() {
    folder_ = std::filesystem::temp_directory_path() / ("fairlead-api-test-" + std::to_string(getpid()));
    auto plane = ControlPlane::start({.folder = folder_, .binary = FAIRLEAD_GO_BIN "/k8s"});
    ASSERT_TRUE(plane) << plane.error().message();
    const auto role = plane->kubectl("apply -f " FAIRLEAD_SOURCE "/deploy/node-role.yaml");
    ASSERT_EQ(role.code, 0) << role.output;
    bed_ = new Bed(std::move(*plane));
  }
  static void TearDownTestSuite() {
    delete bed_;
    bed_ = nullptr;
    std::filesystem::remove_all(folder_);
  }
  void SetUp() override { ASSERT_NE(bed_, nullptr); }

  // `kubectl … ` must succeed; its output.
  static std::string kubectl(const std::string& args) {
    const auto result = bed_->plane.kubectl(args);
    EXPECT_EQ(result.code, 0) << args << ": " << result.output;
    return result.output;
  }
  static bool synced() {
    const auto answer = bed_->status.call_sync({"api.status", {}}, 5s);
    return answer && (*answer)["complete"] == true && (*answer)["failing"].empty();
  }

  static inline std::filesystem::path folder_;
  static inline Bed* bed_ = nullptr;
};

TEST_F(ApiServer, TheNodeRegistersItselfAndRenewsItsLease) {
  ASSERT_TRUE(eventually([] {
    return bed_->plane.kubectl("get node node-a -o jsonpath='{.status.conditions[*].status}'").output ==
           "False True False True";
  }));
  EXPECT_EQ(kubectl("get node node-a -o jsonpath='{.status.nodeInfo.containerRuntimeVersion}'"), "containerd://9.9");
  EXPECT_EQ(kubectl("get node node-a -o jsonpath='{.status.addresses[0].address}'"), "10.0.0.1");
  EXPECT_EQ(kubectl("get node node-a -o jsonpath='{.status.conditions[*].reason}'"),
            "KubeletHasSufficientMemory KubeletHasDiskPressure KubeletHasSufficientPID KubeletReady");
  const std::string lease = "get lease -n kube-node-lease node-a -o jsonpath='{.spec.renewTime}'";
  ASSERT_TRUE(eventually([&] { return bed_->plane.kubectl(lease).code == 0; }));
  const std::string renewed = kubectl(lease);
  EXPECT_TRUE(eventually([&] { return kubectl(lease) != renewed; }));
  EXPECT_EQ(kubectl("get lease -n kube-node-lease node-a -o jsonpath='{.metadata.ownerReferences[0].name}'"), "node-a");
}

TEST_F(ApiServer, ServicesAreListedThenWatched) {
  ASSERT_TRUE(eventually(synced));
  EXPECT_TRUE(eventually([] { return bed_->services.get("default/kubernetes") != nullptr; }));
  kubectl("create service clusterip web --tcp=80:8080");
  ASSERT_TRUE(eventually([] { return bed_->services.get("default/web") != nullptr; }));
  const auto web = bed_->services.get("default/web");
  EXPECT_EQ(web->ports.at(0).port, 80);
  EXPECT_EQ(web->cluster_ips.at(0).str(), kubectl("get service web -o jsonpath='{.spec.clusterIP}'"));
  kubectl("delete service web");
  EXPECT_TRUE(eventually([] { return bed_->services.get("default/web") == nullptr; }));
}

TEST_F(ApiServer, APodOfThisNodeArrivesAndItsStatusAndEndAreTold) {
  ASSERT_TRUE(eventually([] { return bed_->plane.kubectl("get node node-a").code == 0; }));
  ASSERT_TRUE(eventually([] {
    return bed_->plane.kubectl("get serviceaccount default").code == 0 ||
           bed_->plane.kubectl("create serviceaccount default").code == 0;
  }));
  kubectl(
      "run p --image=x --overrides='{\"spec\": {\"nodeName\": \"node-a\", \"automountServiceAccountToken\": false}}'");
  kubectl(
      "run other --image=x --overrides='{\"spec\": {\"nodeName\": \"node-b\", \"automountServiceAccountToken\": "
      "false}}'");
  const std::string uid = kubectl("get pod p -o jsonpath='{.metadata.uid}'");
  ASSERT_TRUE(eventually([&] { return bed_->pods.get(uid) != nullptr; }));
  EXPECT_EQ(bed_->pods.size(), 1U);  // only this node's
  const auto pod = bed_->pods.get(uid);
  EXPECT_EQ(pod->source, kube::kApiSource);

  k8s::PodStatus status;
  status.set_phase("Running");
  status.set_podip("10.244.0.7");
  status.add_podips()->set_ip("10.244.0.7");
  model::PodStatusUpdate update{
      .id = pod->id, .status = std::make_shared<const k8s::PodStatus>(status), .source = "api"};
  bed_->statuses.send(update);
  EXPECT_TRUE(eventually([] { return kubectl("get pod p -o jsonpath='{.status.phase}'") == "Running"; }));

  kubectl("delete pod p --wait=false");
  ASSERT_TRUE(eventually([&] { return bed_->pods.get(uid)->deletion_grace_s == 30; }));
  update.finished = true;
  bed_->statuses.send(update);
  EXPECT_TRUE(eventually([&] { return bed_->pods.get(uid) == nullptr; }));
  EXPECT_NE(bed_->plane.kubectl("get pod p").code, 0);
}

TEST_F(ApiServer, AKilledServerLosesNothingAndIsTakenUpAgain) {
  ASSERT_TRUE(eventually(synced));
  kubectl("create service clusterip before --tcp=80");
  ASSERT_TRUE(eventually([] { return bed_->services.get("default/before") != nullptr; }));
  bed_->plane.kill_api_server();
  ASSERT_TRUE(eventually([] { return !synced(); }));
  EXPECT_NE(bed_->services.get("default/before"), nullptr);  // what was in force stays
  const auto again = bed_->plane.start_api_server();
  ASSERT_TRUE(again) << again.error().message();
  kubectl("delete service before");
  kubectl("create service clusterip after --tcp=80");
  EXPECT_TRUE(eventually([] { return bed_->services.get("default/after") != nullptr; }, 60s));
  EXPECT_TRUE(eventually([] { return bed_->services.get("default/before") == nullptr; }));
  EXPECT_TRUE(eventually(synced));
}

}  // namespace
}  // namespace fairlead
