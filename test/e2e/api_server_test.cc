// SPDX-License-Identifier: Apache-2.0
// The node's registration, the cluster's lists and watches, and a server that forbids, changes and dies.
#include <fstream>

#include "test/e2e/api_server_fixture.h"

namespace fairlead {
namespace {

using namespace std::chrono_literals;

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
  EXPECT_TRUE(eventually([] { return bed_->tables.services.get("default/kubernetes") != nullptr; }));
  kubectl("create service clusterip web --tcp=80:8080");
  ASSERT_TRUE(eventually([] { return bed_->tables.services.get("default/web") != nullptr; }));
  const auto web = bed_->tables.services.get("default/web");
  EXPECT_EQ(web->ports.at(0).port, 80);
  EXPECT_EQ(web->cluster_ips.at(0).str(), kubectl("get service web -o jsonpath='{.spec.clusterIP}'"));
  kubectl("delete service web");
  EXPECT_TRUE(eventually([] { return bed_->tables.services.get("default/web") == nullptr; }));
}

// What policy is judged by, of the whole cluster, under the rights that deploy/node-role.yaml gives to nodes.
TEST_F(ApiServer, PoliciesNamespacesAndPeersAreListedThenWatched) {
  ASSERT_TRUE(eventually(synced));
  EXPECT_TRUE(eventually([] { return bed_->tables.namespaces.get("default") != nullptr; }));
  EXPECT_EQ(bed_->tables.namespaces.get("default")->labels.at(model::kNamespaceNameLabel), "default");
  kubectl("create namespace shop");
  kubectl("label namespace shop team=x");
  EXPECT_TRUE(eventually([] {
    const auto shop = bed_->tables.namespaces.get("shop");
    return shop != nullptr && shop->labels.contains("team");
  }));

  apply(
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\n"
      "spec: {podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}\n");
  ASSERT_TRUE(eventually([] { return bed_->tables.policies.get("default/deny") != nullptr; }));
  const auto deny = bed_->tables.policies.get("default/deny");
  EXPECT_TRUE(deny->isolates_ingress && deny->isolates_egress);
  EXPECT_TRUE(deny->egress.at(0).any_port);
  kubectl("delete networkpolicy deny");
  EXPECT_TRUE(eventually([] { return bed_->tables.policies.get("default/deny") == nullptr; }));

  make_pod("near");
  kubectl(
      "run far --image=x --labels=app=far --overrides='{\"spec\": {\"nodeName\": \"node-b\", "
      "\"automountServiceAccountToken\": false}}'");
  const std::string uid = field("pod far", ".metadata.uid");
  ASSERT_TRUE(eventually([&] { return bed_->tables.peer_pods.get(uid) != nullptr; }));
  EXPECT_EQ(bed_->tables.peer_pods.get(uid)->labels, (model::Labels{{"app", "far"}}));
  EXPECT_EQ(bed_->tables.peer_pods.get(uid)->node, "node-b");
  EXPECT_TRUE(bed_->tables.peer_pods.get(uid)->ips.empty());
  kubectl(
      "patch pod far --subresource=status --type=merge -p '{\"status\": {\"podIP\": \"10.0.9.9\", "
      "\"podIPs\": [{\"ip\": \"10.0.9.9\"}]}}'");
  EXPECT_TRUE(
      eventually([&] { return bed_->tables.peer_pods.get(uid)->ips == std::vector{*IpAddress::parse("10.0.9.9")}; }));
  kubectl("delete pod far --force --grace-period=0");
  EXPECT_TRUE(eventually([&] { return bed_->tables.peer_pods.get(uid) == nullptr; }));
  EXPECT_EQ(bed_->tables.pods.get(uid), nullptr) << "it is not this node's";
}

TEST_F(ApiServer, OneForbiddenKindBlocksNoOther) {
  kubectl("delete clusterrolebinding fairlead:node");
  const ObjectTables tables{kube::kApiSource};
  metrics::Registry registry;
  auto [caller, responder] = make_request<Inspect, Json>();
  LoopThread edge("edge");
  kube::ApiSource source(edge.loop(), {.access = kube::read_kubeconfig(bed_->plane.node_kubeconfig("node-b")).value(),
                                       .node_name = "node-b",
                                       .writers = tables.api_writers(),
                                       .pod_ends = std::nullopt,
                                       .inspect = std::move(responder),
                                       .registry = registry});
  source.start();
  edge.start();
  const auto status = [&, &ask = caller] { return ask.call_sync({"api.status", {}}, 5s).value_or(Json()); };
  ASSERT_TRUE(eventually([&] { return tables.services.missing().empty() && tables.pods.missing().empty(); }));
  const Json forbidden{"EndpointSlice", "Node", "Namespace", "NetworkPolicy", "PeerPod"};  // but not "Node node-b"
  EXPECT_TRUE(eventually([&] {
    const Json told = status();
    return told["missing"] == forbidden &&
           std::ranges::all_of(forbidden, [&](const Json& kind) { return told["failing"].contains(kind); });
  })) << status();
  EXPECT_FALSE(tables.slices.missing().empty() || tables.nodes.missing().empty());
  EXPECT_TRUE(tables.node.missing().empty());
  kubectl("apply -f " FAIRLEAD_SOURCE "/deploy/node-role.yaml");
  EXPECT_TRUE(eventually([&] { return tables.slices.missing().empty() && status()["complete"] == true; }));
  EXPECT_NE(tables.nodes.get("node-a"), nullptr);
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
  ASSERT_TRUE(eventually([] { return bed_->tables.services.get("default/before") != nullptr; }));
  bed_->plane.kill_api_server();
  ASSERT_TRUE(eventually([] { return !synced(); }));
  EXPECT_NE(bed_->tables.services.get("default/before"), nullptr);  // what was in force stays
  bed_->statuses.send({.id = {"default", "survivor", uid}, .status = running("10.244.0.9"), .source = "api"});
  bed_->events.send(
      {.involved = {"default", "survivor", uid}, .reason = "Started", .message = "Started", .at = bed_->clock.wall()});
  ASSERT_TRUE(eventually([] { return !api_status()["failing"].value("PodStatus default/survivor", "").empty(); }));
  const auto again = bed_->plane.start_api_server();
  ASSERT_TRUE(again) << again.error().message();
  kubectl("delete service before");
  kubectl("create service clusterip after --tcp=80");
  EXPECT_TRUE(eventually([] { return bed_->tables.services.get("default/after") != nullptr; }, 60s));
  EXPECT_TRUE(eventually([] { return bed_->tables.services.get("default/before") == nullptr; }));
  EXPECT_TRUE(eventually([] { return field("pod survivor", ".status.podIP") == "10.244.0.9"; }));
  EXPECT_TRUE(eventually(
      [&] { return field("events --field-selector=involvedObject.uid=" + uid, ".items[*].reason") == "Started"; }));
  EXPECT_TRUE(eventually(synced));
}

}  // namespace
}  // namespace fairlead
