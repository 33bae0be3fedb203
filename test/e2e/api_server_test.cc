// SPDX-License-Identifier: Apache-2.0
// The API edge and the node's word against a real kube-apiserver, under the node's own rights:
//
//   ApiSource + NodeReporter (system:node:node-a) ── TLS, HTTP/2, protobuf ── kube-apiserver ── etcd
#include <gtest/gtest.h>
#include <k8s/pod.pb.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <tuple>

#include "agent/base/loop_thread.h"
#include "agent/kube/api/api_source.h"
#include "agent/kube/api/mirror_pods.h"
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

// Established TCP connections of this process to the port that `url` names.
int connections_to(const std::string& url) {
  const auto peer = fmt::format(":{:04X}", std::stoi(url.substr(url.rfind(':') + 1)));
  std::set<std::string> inodes;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry.path(), gone);
    if (target.starts_with("socket:[")) inodes.insert(target.substr(8, target.size() - 9));
  }
  int count = 0;
  std::ifstream table("/proc/self/net/tcp");
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string slot, local, remote, state, word, inode;
    words >> slot >> local >> remote >> state >> word >> word >> word >> word >> word >> inode;
    if (remote.ends_with(peer) && state == "01" && inodes.contains(inode)) ++count;
  }
  return count;
}

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
    state::Table<model::Node> nodes{{"api"}};
    state::Table<model::Namespace> namespaces{{"api"}};
    state::Table<model::NetworkPolicy> policies{{"api"}};
    state::Table<model::PeerPod> peers{{"api"}};
    state::Table<model::ConfigData> config_maps{{"api"}};
    state::Table<model::ConfigData> secrets{{"api"}};
    HealthyRuntime runtime;
    Sender<model::PodStatusUpdate> statuses;
    Sender<model::EventNote> events;
    Sender<model::StaticPod> static_pods;
    Sender<model::ConfigWant> wants;
    Caller<model::TokenAsk, model::ServiceAccountToken> tokens;
    Caller<Inspect, Json> status;
    LoopThread edge{"edge"};
    std::unique_ptr<kube::ApiSource> source;
    std::unique_ptr<node::NodeReporter> reporter;

    explicit Bed(ControlPlane started) : plane(std::move(started)) {
      auto [caller, responder] = make_request<Inspect, Json>();
      status = caller;
      kube::PodEnds ends;
      std::tie(statuses, ends.statuses) = make_channel<model::PodStatusUpdate>();
      std::tie(events, ends.events) = make_channel<model::EventNote>();
      std::tie(static_pods, ends.static_pods) = make_channel<model::StaticPod>();
      std::tie(wants, ends.config_wants) = make_channel<model::ConfigWant>();
      std::tie(tokens, ends.tokens) = make_request<model::TokenAsk, model::ServiceAccountToken>();
      ends.config_maps = config_maps.writer("api");
      ends.secrets = secrets.writer("api");
      source = std::make_unique<kube::ApiSource>(
          edge.loop(),
          kube::ApiSource::Deps{
              .access = kube::read_kubeconfig(plane.node_kubeconfig("node-a")).value(),
              .node_name = "node-a",
              .writers = {services.writer("api"), slices.writer("api"), pods.writer("api"), node.writer("api"),
                          nodes.writer("api"), namespaces.writer("api"), policies.writer("api"), peers.writer("api")},
              .pod_ends = std::move(ends),
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
  static Json api_status() { return bed_->status.call_sync({"api.status", {}}, 5s).value_or(Json()); }
  static bool synced() {
    const Json answer = api_status();
    return answer.value("complete", false) && answer["failing"].empty();
  }
  // Text on its way to `kubectl apply`.
  static void apply(const std::string& manifest) {
    std::ofstream(folder_ / "apply.yaml") << manifest;
    kubectl("apply -f " + (folder_ / "apply.yaml").string());
  }
  // A pod bound to the node, once the Node is there; its uid.
  static std::string make_pod(const std::string& name, const std::string& spec = "", const std::string& meta = "") {
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
    EXPECT_TRUE(eventually([&] { return bed_->pods.get(uid) != nullptr; }));
    return uid;
  }
  // A field of an object, or "" where it is not there.
  static std::string field(const std::string& object, const std::string& path) {
    const auto result = bed_->plane.kubectl("get " + object + " -o jsonpath='{" + path + "}'");
    return result.code == 0 ? result.output : "";
  }
  static std::shared_ptr<const k8s::PodStatus> running(const std::string& ip) {
    auto status = std::make_shared<k8s::PodStatus>();
    status->set_phase("Running");
    status->set_podip(ip);
    status->add_podips()->set_ip(ip);
    return status;
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

// What policy is judged by, of the whole cluster, under the rights that deploy/node-role.yaml gives to nodes.
TEST_F(ApiServer, PoliciesNamespacesAndPeersAreListedThenWatched) {
  ASSERT_TRUE(eventually(synced));
  EXPECT_TRUE(eventually([] { return bed_->namespaces.get("default") != nullptr; }));
  EXPECT_EQ(bed_->namespaces.get("default")->labels.at(model::kNamespaceNameLabel), "default");
  kubectl("create namespace shop");
  kubectl("label namespace shop team=x");
  EXPECT_TRUE(eventually([] {
    const auto shop = bed_->namespaces.get("shop");
    return shop != nullptr && shop->labels.contains("team");
  }));

  apply(
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\n"
      "spec: {podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}\n");
  ASSERT_TRUE(eventually([] { return bed_->policies.get("default/deny") != nullptr; }));
  const auto deny = bed_->policies.get("default/deny");
  EXPECT_TRUE(deny->isolates_ingress && deny->isolates_egress);
  EXPECT_TRUE(deny->egress.at(0).any_port);
  kubectl("delete networkpolicy deny");
  EXPECT_TRUE(eventually([] { return bed_->policies.get("default/deny") == nullptr; }));

  make_pod("near");
  kubectl(
      "run far --image=x --labels=app=far --overrides='{\"spec\": {\"nodeName\": \"node-b\", "
      "\"automountServiceAccountToken\": false}}'");
  const std::string uid = field("pod far", ".metadata.uid");
  ASSERT_TRUE(eventually([&] { return bed_->peers.get(uid) != nullptr; }));
  EXPECT_EQ(bed_->peers.get(uid)->labels, (model::Labels{{"app", "far"}}));
  EXPECT_EQ(bed_->peers.get(uid)->node, "node-b");
  EXPECT_TRUE(bed_->peers.get(uid)->ips.empty());
  kubectl(
      "patch pod far --subresource=status --type=merge -p '{\"status\": {\"podIP\": \"10.0.9.9\", "
      "\"podIPs\": [{\"ip\": \"10.0.9.9\"}]}}'");
  EXPECT_TRUE(eventually([&] { return bed_->peers.get(uid)->ips == std::vector{*IpAddress::parse("10.0.9.9")}; }));
  kubectl("delete pod far --force --grace-period=0");
  EXPECT_TRUE(eventually([&] { return bed_->peers.get(uid) == nullptr; }));
  EXPECT_EQ(bed_->pods.get(uid), nullptr) << "it is not this node's";
}

TEST_F(ApiServer, APodOfThisNodeArrivesAndItsStatusAndEndAreTold) {
  // The finalizer keeps the object for a look at it after its removal.
  const std::string uid = make_pod("p", "", ", finalizers: [test/look]");
  kubectl(
      "run other --image=x --overrides='{\"spec\": {\"nodeName\": \"node-b\", \"automountServiceAccountToken\": "
      "false}}'");
  const auto pod = bed_->pods.get(uid);
  EXPECT_EQ(pod->source, kube::kApiSource);
  model::PodStatusUpdate update{.id = pod->id, .status = running("10.244.0.7"), .source = "api"};
  bed_->statuses.send(update);
  EXPECT_TRUE(eventually([] { return field("pod p", ".status.phase") == "Running"; }));
  update.status = running("10.244.0.8");  // the sandbox was made anew
  bed_->statuses.send(update);
  EXPECT_TRUE(eventually([] { return field("pod p", ".status.podIPs[*].ip") == "10.244.0.8"; }));
  auto waiting = std::make_shared<k8s::PodStatus>();
  waiting->set_phase("Pending");
  update.status = waiting;
  bed_->statuses.send(update);
  EXPECT_TRUE(eventually([] { return field("pod p", ".status.phase") == "Pending"; }));
  EXPECT_EQ(field("pod p", ".status.podIPs[*].ip") + field("pod p", ".status.podIP"), "");
  EXPECT_EQ(bed_->pods.get(field("pod other", ".metadata.uid")), nullptr);  // only this node's

  kubectl("delete pod p --wait=false");
  ASSERT_TRUE(eventually([&] { return bed_->pods.get(uid)->deletion_grace_s == 30; }));
  auto ended = std::make_shared<k8s::PodStatus>();
  ended->set_phase("Succeeded");
  update.status = ended;
  update.finished = true;
  bed_->statuses.send(update);  // the last word first, then the removal
  EXPECT_TRUE(eventually([] { return field("pod p", ".metadata.deletionGracePeriodSeconds") == "0"; }));
  EXPECT_EQ(field("pod p", ".status.phase"), "Succeeded");
  kubectl("patch pod p --type=json -p='[{\"op\": \"remove\", \"path\": \"/metadata/finalizers\"}]'");
  EXPECT_TRUE(eventually([&] { return bed_->pods.get(uid) == nullptr; }));

  // Another pod of that name is not the one that ended.
  const std::string next = make_pod("p");
  bed_->statuses.send(update);
  EXPECT_TRUE(eventually([] { return api_status()["pending"]["statuses"] == 0; }));
  EXPECT_EQ(field("pod p", ".metadata.uid"), next);
  EXPECT_EQ(field("pod p", ".metadata.deletionTimestamp"), "");
}

TEST_F(ApiServer, ConfigMapsAndSecretsAreReadByNameWhileTheyAreWanted) {
  // 150 objects over two connections: the server allows 100 exchanges on each.
  std::string manifest;
  std::string volumes;
  for (int i = 0; i < 150; ++i) {
    manifest +=
        fmt::format("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: many-{0}}}\ndata: {{v: '{0}'}}\n", i);
    volumes += fmt::format(", {{name: m{0}, configMap: {{name: many-{0}}}}}", i);
  }
  apply(manifest + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: key}\ndata: {k: AAEC}\n" +
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: foreign}\n");
  make_pod("reader",
           ", volumes: [{name: s, secret: {secretName: key}}, {name: a, configMap: {name: later, optional: true}}" +
               volumes + "]");
  using enum model::ConfigKind;
  for (int i = 0; i < 150; ++i) bed_->wants.send({kConfigMap, fmt::format("default/many-{}", i)});
  bed_->wants.send({kSecret, "default/key"});
  bed_->wants.send({kConfigMap, "default/later"});
  bed_->wants.send({kSecret, "default/foreign"});  // no pod of ours uses it: forbidden

  ASSERT_TRUE(eventually([] { return bed_->config_maps.size() == 151 && bed_->secrets.size() == 1; }));
  EXPECT_EQ(bed_->secrets.get("default/key")->data.at("k"), std::string("\0\1\2", 3));
  EXPECT_EQ(bed_->config_maps.get("default/many-149")->data.at("v"), "149");
  EXPECT_TRUE(bed_->config_maps.get("default/later")->absent);
  EXPECT_EQ(connections_to(bed_->plane.url()), 2);
  const Json status = api_status();
  EXPECT_EQ(status["complete"], true);
  EXPECT_EQ(status["missing"], Json::array({"Secret default/foreign"}));
  EXPECT_NE(status["failing"].value("Secret default/foreign", "").find("403"), std::string::npos) << status;

  kubectl("create configmap later --from-literal=x=y");
  EXPECT_TRUE(eventually([] { return !bed_->config_maps.get("default/later")->absent; }));
  kubectl("patch configmap many-7 -p '{\"data\": {\"v\": \"new\"}}'");
  EXPECT_TRUE(eventually([] { return bed_->config_maps.get("default/many-7")->data.at("v") == "new"; }));
  kubectl("delete configmap many-7");
  EXPECT_TRUE(eventually([] { return bed_->config_maps.get("default/many-7")->absent; }));
  bed_->wants.send({kSecret, "default/foreign", false});
  for (int i = 0; i < 150; ++i) bed_->wants.send({kConfigMap, fmt::format("default/many-{}", i), false});
  EXPECT_TRUE(eventually([] { return bed_->config_maps.size() == 1; }));
  EXPECT_TRUE(eventually(synced));
}

TEST_F(ApiServer, ATokenIsBoundToItsPod) {
  // The node may only ask for audiences that the pod's own volumes name.
  const std::string uid =
      make_pod("caller", ", volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: token}}]}}]");
  model::TokenAsk ask{
      .pod = {"default", "caller", uid}, .service_account = "default", .audiences = {}, .expiration_s = 3600};
  // The authorizer learns of the pod on its own way.
  Result<model::ServiceAccountToken> token = fail(Code::kTimeout, "not asked");
  ASSERT_TRUE(eventually([&] { return (token = bed_->tokens.call_sync(ask, 10s)).has_value(); }))
      << token.error().message();
  EXPECT_GT(token->expires, bed_->clock.wall() + 50min);
  EXPECT_LT(token->expires, bed_->clock.wall() + 70min);
  const auto whoami = Json::parse(kubectl("auth whoami -o json --token=" + token->token));
  EXPECT_EQ(whoami["status"]["userInfo"]["username"], "system:serviceaccount:default:default");
  EXPECT_EQ(whoami["status"]["userInfo"]["extra"]["authentication.kubernetes.io/pod-uid"], Json::array({uid}));
  ask.pod.uid = "00000000-0000-0000-0000-000000000000";
  const auto refused = bed_->tokens.call_sync(ask, 10s);
  EXPECT_FALSE(refused);
}

TEST_F(ApiServer, EventsAreToldAndRepeatsCounted) {
  const std::string uid = make_pod("eventful");
  model::EventNote note{.involved = {"default", "eventful", uid},
                        .field_path = "spec.containers{c}",
                        .warning = true,
                        .reason = "BackOff",
                        .message = "Back-off restarting failed container",
                        .at = bed_->clock.wall()};
  bed_->events.send(note);
  const std::string mine = "events --field-selector=involvedObject.uid=" + uid;
  ASSERT_TRUE(eventually([&] { return field(mine, ".items[*].count") == "1"; }));
  for (int i = 1; i <= 2; ++i) {
    note.at += 1s;
    bed_->events.send(note);
  }
  EXPECT_TRUE(eventually([&] { return field(mine, ".items[*].count") == "3"; }));
  EXPECT_EQ(field(mine, ".items[*].source.component"), "kubelet");
  EXPECT_EQ(field(mine, ".items[*].source.host"), "node-a");
  EXPECT_EQ(field(mine, ".items[*].type"), "Warning");
  EXPECT_NE(kubectl("describe pod eventful").find("Back-off restarting failed container"), std::string::npos);
  // Somebody else removed it: the next one is an Event anew.
  kubectl("delete events --field-selector=involvedObject.uid=" + uid);
  bed_->events.send(note);
  EXPECT_TRUE(eventually([&] { return field(mine, ".items[*].count") == "4"; }));
}

// A static pod as its source makes it.
model::StaticPod static_pod(const std::string& name, const std::string& uid, const std::string& image = "x") {
  auto pod = std::make_shared<k8s::Pod>();
  pod->mutable_metadata()->set_name(name);
  pod->mutable_metadata()->set_namespace_("kube-system");
  pod->mutable_metadata()->set_uid(uid);
  (*pod->mutable_metadata()->mutable_labels())["tier"] = "control-plane";
  pod->mutable_spec()->set_nodename("node-a");
  auto* container = pod->mutable_spec()->add_containers();
  container->set_name("etcd");
  container->set_image(image);
  return {{"kube-system", name, uid}, pod};
}

TEST_F(ApiServer, AStaticPodIsShownByAMirror) {
  ASSERT_TRUE(eventually([] { return bed_->plane.kubectl("get node node-a").code == 0; }));
  const std::string mirror = "pod -n kube-system etcd-node-a";
  // Of a former run, for a pod that is gone.
  const auto stale = static_pod("stale-node-a", "uid-0");
  std::ofstream(folder_ / "stale.json")
      << kube::mirror_pod(*stale.object, "node-a", field("node node-a", ".metadata.uid")).dump();
  kubectl("create -f " + (folder_ / "stale.json").string() +
          " --kubeconfig=" + bed_->plane.node_kubeconfig("node-a").string());

  bed_->static_pods.send(static_pod("etcd-node-a", "uid-1", "x:1"));
  bed_->statuses.send(
      {.id = {"kube-system", "etcd-node-a", "uid-1"}, .status = running("10.0.0.1"), .source = "/m/etcd.yaml"});
  ASSERT_TRUE(eventually([&] { return field(mirror, ".status.phase") == "Running"; })) << api_status();
  const std::string first = field(mirror, ".metadata.uid");
  EXPECT_EQ(field(mirror, ".metadata.annotations.kubernetes\\.io/config\\.mirror"), "uid-1");
  EXPECT_EQ(field(mirror, ".metadata.annotations.kubernetes\\.io/config\\.hash"), "uid-1");
  EXPECT_EQ(field(mirror, ".metadata.annotations.kubernetes\\.io/config\\.source"), "file");
  EXPECT_EQ(field(mirror, ".metadata.labels.tier"), "control-plane");
  EXPECT_EQ(field(mirror, ".metadata.ownerReferences[0].uid"), field("node node-a", ".metadata.uid"));
  EXPECT_EQ(bed_->pods.get(first), nullptr);                                 // it asks for no pod
  EXPECT_NE(field("pod -n kube-system stale-node-a", ".metadata.uid"), "");  // until all static pods are named
  bed_->static_pods.send({});
  EXPECT_TRUE(eventually([] { return field("pod -n kube-system stale-node-a", ".metadata.uid").empty(); }));

  kubectl("delete pod -n kube-system etcd-node-a --wait=false");
  ASSERT_TRUE(eventually([&] {
    const std::string uid = field(mirror, ".metadata.uid");
    return !uid.empty() && uid != first && field(mirror, ".status.phase") == "Running";
  }));

  // Its file changed: another pod, shown once the old one is gone.
  bed_->static_pods.send(static_pod("etcd-node-a", "uid-2", "x:2"));
  bed_->static_pods.send({{"kube-system", "etcd-node-a", "uid-1"}, nullptr});
  ASSERT_TRUE(eventually([&] { return field(mirror, ".spec.containers[0].image") == "x:2"; }));
  bed_->static_pods.send({{"kube-system", "etcd-node-a", "uid-2"}, nullptr});
  EXPECT_TRUE(eventually([&] { return field(mirror, ".metadata.uid").empty(); }));
  EXPECT_TRUE(eventually(synced));
}

TEST_F(ApiServer, OneForbiddenKindBlocksNoOther) {
  kubectl("delete clusterrolebinding fairlead:node");
  state::Table<model::Service> services{{"api"}};
  state::Table<model::EndpointSlice> slices{{"api"}};
  state::Table<model::Pod> pods{{"api"}};
  state::Table<model::Node> node{{"api"}};
  state::Table<model::Node> nodes{{"api"}};
  state::Table<model::Namespace> namespaces{{"api"}};
  state::Table<model::NetworkPolicy> policies{{"api"}};
  state::Table<model::PeerPod> peers{{"api"}};
  metrics::Registry registry;
  auto [caller, responder] = make_request<Inspect, Json>();
  LoopThread edge("edge");
  kube::ApiSource source(edge.loop(), {.access = kube::read_kubeconfig(bed_->plane.node_kubeconfig("node-b")).value(),
                                       .node_name = "node-b",
                                       .writers = {services.writer("api"), slices.writer("api"), pods.writer("api"),
                                                   node.writer("api"), nodes.writer("api"), namespaces.writer("api"),
                                                   policies.writer("api"), peers.writer("api")},
                                       .pod_ends = std::nullopt,
                                       .inspect = std::move(responder),
                                       .registry = registry});
  source.start();
  edge.start();
  const auto status = [&, &ask = caller] { return ask.call_sync({"api.status", {}}, 5s).value_or(Json()); };
  ASSERT_TRUE(eventually([&] { return services.missing().empty() && pods.missing().empty(); }));
  const Json forbidden{"EndpointSlice", "Node", "Namespace", "NetworkPolicy", "PeerPod"};  // but not "Node node-b"
  EXPECT_TRUE(eventually([&] {
    const Json told = status();
    return told["missing"] == forbidden &&
           std::ranges::all_of(forbidden, [&](const Json& kind) { return told["failing"].contains(kind); });
  })) << status();
  EXPECT_FALSE(slices.missing().empty() || nodes.missing().empty());
  EXPECT_TRUE(node.missing().empty());
  kubectl("apply -f " FAIRLEAD_SOURCE "/deploy/node-role.yaml");
  EXPECT_TRUE(eventually([&] { return slices.missing().empty() && status()["complete"] == true; }));
  EXPECT_NE(nodes.get("node-a"), nullptr);
  edge.join();
}

TEST_F(ApiServer, RotatedCertificatesCountAtOnce) {
  const std::string client = folder_ / "client";
  const std::string ca = folder_ / "ca.crt";
  std::ofstream(folder_ / "cert.kubeconfig")
      << "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: "
         "{server: '"
      << bed_->plane.url() << "', certificate-authority: ca.crt}}]\n"
      << "users: [{name: u, user: {client-certificate: client.crt, client-key: client.key}}]\n";
  ASSERT_TRUE(bed_->plane.write_client_certificate(client, "system:node:node-a", "system:nodes"));
  std::filesystem::copy_file(folder_ / "clients.crt", ca);  // the wrong one
  Loop loop;
  kube::HttpClient http(loop, kube::read_kubeconfig(folder_ / "cert.kubeconfig").value());
  kube::JsonApi api(http);
  const auto who = [&] {
    std::optional<Result<Json>> answer;
    api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews",
               {{"apiVersion", "authentication.k8s.io/v1"}, {"kind", "SelfSubjectReview"}},
               [&](Result<Json> made) { answer = std::move(made); });
    while (!answer) loop.poll();
    return *answer ? kube::text_at(**answer, "/status/userInfo/username") : answer->error().message();
  };
  EXPECT_NE(who().find("certificate"), std::string::npos) << who();
  std::filesystem::copy_file(bed_->plane.ca_file(), ca, std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(who(), "system:node:node-a");
  ASSERT_TRUE(bed_->plane.write_client_certificate(client, "system:node:node-b", "system:nodes"));
  EXPECT_EQ(who(), "system:node:node-b");
}

TEST_F(ApiServer, AKilledServerLosesNothingAndIsTakenUpAgain) {
  const std::string uid = make_pod("survivor");
  ASSERT_TRUE(eventually(synced));
  kubectl("create service clusterip before --tcp=80");
  ASSERT_TRUE(eventually([] { return bed_->services.get("default/before") != nullptr; }));
  bed_->plane.kill_api_server();
  ASSERT_TRUE(eventually([] { return !synced(); }));
  EXPECT_NE(bed_->services.get("default/before"), nullptr);  // what was in force stays
  bed_->statuses.send({.id = {"default", "survivor", uid}, .status = running("10.244.0.9"), .source = "api"});
  bed_->events.send(
      {.involved = {"default", "survivor", uid}, .reason = "Started", .message = "Started", .at = bed_->clock.wall()});
  ASSERT_TRUE(eventually([] { return !api_status()["failing"].value("PodStatus default/survivor", "").empty(); }));
  const auto again = bed_->plane.start_api_server();
  ASSERT_TRUE(again) << again.error().message();
  kubectl("delete service before");
  kubectl("create service clusterip after --tcp=80");
  EXPECT_TRUE(eventually([] { return bed_->services.get("default/after") != nullptr; }, 60s));
  EXPECT_TRUE(eventually([] { return bed_->services.get("default/before") == nullptr; }));
  EXPECT_TRUE(eventually([] { return field("pod survivor", ".status.podIP") == "10.244.0.9"; }));
  EXPECT_TRUE(eventually(
      [&] { return field("events --field-selector=involvedObject.uid=" + uid, ".items[*].reason") == "Started"; }));
  EXPECT_TRUE(eventually(synced));
}

}  // namespace
}  // namespace fairlead
