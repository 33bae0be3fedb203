// SPDX-License-Identifier: Apache-2.0
// What is told and asked of this node's pods.
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "agent/kube/api/mirror_pods.h"
#include "test/e2e/api_server_fixture.h"

namespace fairlead {
namespace {

using namespace std::chrono_literals;

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

TEST_F(ApiServer, APodOfThisNodeArrivesAndItsStatusAndEndAreTold) {
  // The finalizer keeps the object for a look at it after its removal.
  const std::string uid = make_pod("p", "", ", finalizers: [test/look]");
  kubectl(
      "run other --image=x --overrides='{\"spec\": {\"nodeName\": \"node-b\", \"automountServiceAccountToken\": "
      "false}}'");
  const auto pod = bed_->tables.pods.get(uid);
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
  EXPECT_EQ(bed_->tables.pods.get(field("pod other", ".metadata.uid")), nullptr);  // only this node's

  kubectl("delete pod p --wait=false");
  ASSERT_TRUE(eventually([&] { return bed_->tables.pods.get(uid)->deletion_grace_s == 30; }));
  auto ended = std::make_shared<k8s::PodStatus>();
  ended->set_phase("Succeeded");
  update.status = ended;
  update.finished = true;
  bed_->statuses.send(update);  // the last word first, then the removal
  EXPECT_TRUE(eventually([] { return field("pod p", ".metadata.deletionGracePeriodSeconds") == "0"; }));
  EXPECT_EQ(field("pod p", ".status.phase"), "Succeeded");
  kubectl("patch pod p --type=json -p='[{\"op\": \"remove\", \"path\": \"/metadata/finalizers\"}]'");
  EXPECT_TRUE(eventually([&] { return bed_->tables.pods.get(uid) == nullptr; }));

  // Another pod of that name is not the one that ended.
  const std::string next = make_pod("p");
  bed_->statuses.send(update);
  EXPECT_TRUE(eventually([] { return api_status()["pending"]["statuses"] == 0; }));
  EXPECT_EQ(field("pod p", ".metadata.uid"), next);
  EXPECT_EQ(field("pod p", ".metadata.deletionTimestamp"), "");
}

// As the node controller does with the pods of a node that it has not heard of for a minute.
TEST_F(ApiServer, APodThatAnotherCallsNotReadyIsCalledReadyAgain) {
  const std::string uid = make_pod("called");
  auto status = std::make_shared<k8s::PodStatus>(*running("10.244.0.17"));
  auto& condition = *status->add_conditions();
  condition.set_type("Ready");
  condition.set_status("True");
  bed_->statuses.send({.id = bed_->tables.pods.get(uid)->id, .status = status, .source = "api"});
  const auto ready = [] { return field("pod called", ".status.conditions[?(@.type==\"Ready\")].status"); };
  EXPECT_TRUE(eventually([&] { return ready() == "True"; }));
  for (int round = 0; round < 2; ++round) {
    const std::string before = field("pod called", ".metadata.resourceVersion");
    kubectl(
        "patch pod called --subresource=status "
        "-p='{\"status\": {\"conditions\": [{\"type\": \"Ready\", \"status\": \"False\"}]}}'");
    EXPECT_TRUE(
        eventually([&] { return ready() == "True" && field("pod called", ".metadata.resourceVersion") != before; }));
  }
  kubectl("delete pod called --force");
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

  ASSERT_TRUE(eventually([] { return bed_->tables.config_maps.size() == 151 && bed_->tables.secrets.size() == 1; }));
  EXPECT_EQ(bed_->tables.secrets.get("default/key")->data.at("k"), std::string("\0\1\2", 3));
  EXPECT_EQ(bed_->tables.config_maps.get("default/many-149")->data.at("v"), "149");
  EXPECT_TRUE(bed_->tables.config_maps.get("default/later")->absent);
  EXPECT_EQ(connections_to(bed_->plane.url()), 2);
  const Json status = api_status();
  EXPECT_EQ(status["complete"], true);
  EXPECT_EQ(status["missing"], Json::array({"Secret default/foreign"}));
  EXPECT_NE(status["failing"].value("Secret default/foreign", "").find("403"), std::string::npos) << status;

  kubectl("create configmap later --from-literal=x=y");
  EXPECT_TRUE(eventually([] { return !bed_->tables.config_maps.get("default/later")->absent; }));
  kubectl("patch configmap many-7 -p '{\"data\": {\"v\": \"new\"}}'");
  EXPECT_TRUE(eventually([] { return bed_->tables.config_maps.get("default/many-7")->data.at("v") == "new"; }));
  kubectl("delete configmap many-7");
  EXPECT_TRUE(eventually([] { return bed_->tables.config_maps.get("default/many-7")->absent; }));
  bed_->wants.send({kSecret, "default/foreign", false});
  for (int i = 0; i < 150; ++i) bed_->wants.send({kConfigMap, fmt::format("default/many-{}", i), false});
  EXPECT_TRUE(eventually([] { return bed_->tables.config_maps.size() == 1; }));
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
  EXPECT_EQ(bed_->tables.pods.get(first), nullptr);                          // it asks for no pod
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

}  // namespace
}  // namespace fairlead
