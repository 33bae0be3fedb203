// SPDX-License-Identifier: Apache-2.0
// A node of a real cluster: what the API server says happens, and what happens is told to it.
#include <gmock/gmock.h>

#include <algorithm>
#include <optional>

#include "test/e2e/cluster_fixture.h"

namespace fairlead::e2e {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;
using testkit::eventually;

class ClusterTest : public ClusterFixture {
 protected:
  static void SetUpTestSuite() {
    ASSERT_NO_FATAL_FAILURE(start_plane());
    start_node(plane_->node_kubeconfig("node"));
  }
};

TEST_F(ClusterTest, TheNodeIsDescribedAsItIs) {
  const Json node = object("/api/v1/nodes/node");
  for (const char* label : {"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch"}) {
    EXPECT_TRUE(node["metadata"]["labels"].contains(label)) << label;
  }
  EXPECT_EQ(at(node, "/spec/podCIDRs", Json::array()).size(), 2u);
  EXPECT_EQ(at(node, "/spec/taints"), Json());  // taken away once it was ready
  EXPECT_EQ(at(node, "/status/addresses/0/address"), kNodeV4);
  EXPECT_EQ(at(node, "/status/addresses/1/address"), kNodeV6);
  const std::string text = describe("node node");
  for (const char* what :
       {"MemoryPressure", "KubeletHasSufficientMemory", "KubeletHasNoDiskPressure", "KubeletHasSufficientPID",
        "KubeletReady", "containerd://v2.", "HolderIdentity:  node", "default                     client"}) {
    EXPECT_THAT(text, HasSubstr(what));
  }
  EXPECT_THAT(kubectl("get nodes"), HasSubstr("node   Ready"));
  const Json images = at(node, "/status/images", Json::array());
  EXPECT_TRUE(std::ranges::any_of(images, [](const Json& image) {
    return image.dump().find("localhost/fairlead/echo:demo") != std::string::npos;
  })) << images.dump();
  const std::string lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node";
  const Json before = at(object(lease), "/spec/renewTime");
  EXPECT_TRUE(eventually([&] { return at(object(lease), "/spec/renewTime") != before; }, 15s));
}

// Scaled 1 → 20 → 5 and rolled, while one client asks all the time.
TEST_F(ClusterTest, ADeploymentIsScaledAndRolledUnderLoad) {
  deploy(1);
  ASSERT_TRUE(eventually([] { return node_->backends("web").size() == 1; }, 5s)) << node_->ctl("backend list").dump(1);
  auto load = node_->load("client", kWeb, 200);
  ASSERT_TRUE(load) << load.error().message();
  scale(20);
  EXPECT_TRUE(eventually([] { return web_is(20); }, 60s)) << kubectl("get pods");
  EXPECT_TRUE(eventually([] { return node_->backends("web") == web_addresses(); }, 5s));

  // What kubectl shows is what is here.
  for (const Json& each : web_pods()) {
    const auto name = each["metadata"]["name"].get<std::string>();
    EXPECT_EQ(node_->pod(name).value("ips", Json::array()).dump(), [&] {
      Json ips = Json::array();
      for (const Json& ip : at(each, "/status/podIPs", Json::array())) ips.push_back(ip["ip"]);
      return ips.dump();
    }());
    EXPECT_EQ(each["status"]["hostIP"], kNodeV4);
    EXPECT_EQ(each["status"]["qosClass"], "BestEffort");
  }
  EXPECT_THAT(kubectl("get pods -o wide"),
              testing::ContainsRegex("web-[^ ]+ +1/1 +Running +0 +[^ ]+ +10\\.244\\.0\\.[0-9]+ +node "));

  scale(5);
  EXPECT_TRUE(eventually([] { return web_is(5); }, 60s)) << kubectl("get pods");
  const auto before = web_addresses();
  kubectl("set env deployment/web ROUND=2");
  EXPECT_TRUE(eventually(
      [&] {
        const auto now = web_addresses();
        return web_is(5) && std::ranges::none_of(now, [&](const auto& ip) { return before.contains(ip); });
      },
      60s))
      << kubectl("get pods -o wide");
  EXPECT_TRUE(load->goes_on(1));
  const Json result = load->end();
  ASSERT_TRUE(result.is_object());
  EXPECT_EQ(result.value("failed", -1), 0) << result.dump(1);
  EXPECT_GT(result.value("by_backend", Json::object()).size(), 20u) << result.dump(1);
  EXPECT_TRUE(eventually([] { return node_->backends("web") == web_addresses(); }, 5s));
  EXPECT_THAT(kubectl("rollout status deployment/web --timeout=5s"), HasSubstr("successfully rolled out"));
}

// While a container runs, its Pod object is there; and it gets the grace that its user gave.
TEST_F(ClusterTest, APodObjectGoesOnlyAfterItsContainers) {
  apply(pod_in_cluster("stubborn", R"(command: [sh, -c, "trap '' TERM; while true; do sleep 1; done"])",
                       "terminationGracePeriodSeconds: 60"));
  ASSERT_TRUE(eventually([] { return pod_ready("stubborn"); }, 20s)) << describe("pod stubborn");
  const auto begin = std::chrono::steady_clock::now();
  kubectl("delete pod stubborn --grace-period=3 --wait=false");
  bool early = false;
  std::optional<Json> last;
  ASSERT_TRUE(eventually(
      [&] {
        const bool runs = !node_->containers("stubborn").empty();
        const Json now = pod("stubborn");  // asked after: an object that is gone was told so by the agent
        if (now.is_object()) last = now;
        early = early || (now.is_null() && !node_->containers("stubborn").empty());
        return !runs && now.is_null();
      },
      20s));
  EXPECT_FALSE(early);
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(took, 3s);
  EXPECT_LT(took, 10s);
  EXPECT_EQ(at(*last, "/metadata/deletionGracePeriodSeconds"), 3);
}

TEST_F(ClusterTest, AVanishedPodIsKilledByItsUid) {
  apply(pod_in_cluster("twin", R"(args: [serve, --http, "8080"])"));
  ASSERT_TRUE(eventually([] { return pod_ready("twin"); }, 20s)) << describe("pod twin");
  const auto first = node_->containers("twin");
  const Json uid = pod("twin")["metadata"]["uid"];
  kubectl("delete pod twin --grace-period=0 --force");
  apply(pod_in_cluster("twin", R"(args: [serve, --http, "8080"])"));
  ASSERT_TRUE(eventually([] { return pod_ready("twin"); }, 45s)) << describe("pod twin");
  EXPECT_NE(pod("twin")["metadata"]["uid"], uid);
  const auto second = node_->containers("twin");
  EXPECT_EQ(second.size(), 1u);
  EXPECT_NE(first, second);
  kubectl("delete pod twin --grace-period=1");
  EXPECT_TRUE(eventually([] { return node_->containers("twin", false).empty(); }, 10s));
}

// Everything a pod may ask of the API: volumes, variables, its own facts, and a token that the server takes for it.
TEST_F(ClusterTest, APodGetsItsConfigurationAndItsToken) {
  kubectl("create configmap settings --from-literal=colour=green --from-literal=file.txt=hello");
  kubectl("create secret generic keys --from-literal=password=hunter2");
  apply(pod_in_cluster(
      "config", R"(
      command: [sh, -c, "trap 'exit 0' TERM; while true; do sleep 1; done"],
      resources: {limits: {cpu: 500m, memory: 64Mi}},
      envFrom: [{configMapRef: {name: settings}}],
      env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}},
            {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}},
            {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}},
            {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}},
            {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}},
            {name: TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}},
            {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}},
            {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}],
      volumeMounts: [{name: settings, mountPath: /settings}, {name: keys, mountPath: /keys},
                     {name: all, mountPath: /all}])",
      R"(volumes: [{name: settings, configMap: {name: settings}}, {name: keys, secret: {secretName: keys}},
            {name: all, projected: {sources: [
              {configMap: {name: settings, items: [{key: colour, path: c/colour}]}},
              {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}},
                                     {path: memory, resourceFieldRef: {containerName: main, resource: limits.memory}}]}},
              {serviceAccountToken: {path: token, audience: elsewhere, expirationSeconds: 600}}]}}])"));
  ASSERT_TRUE(eventually([] { return pod_ready("config"); }, 30s)) << describe("pod config");
  const auto inside = [](const std::string& line) { return node_->in_pod("config", line).output; };
  const Json object = pod("config");
  EXPECT_EQ(inside("echo $colour $PASSWORD $POD_NAME $NODE_NAME $TIER $CPUS $MEMORY"),
            "green hunter2 config node test 500 67108864\n");
  EXPECT_EQ(inside("echo $POD_UID $POD_IP"), fmt::format("{} {}\n", object["metadata"]["uid"].get<std::string>(),
                                                         object["status"]["podIP"].get<std::string>()));
  EXPECT_EQ(inside("echo $KUBERNETES_SERVICE_HOST $WEB_SERVICE_HOST $WEB_SERVICE_PORT_HTTP"),
            "10.96.0.1 10.96.0.80 80\n");
  EXPECT_EQ(inside("cat /settings/file.txt /keys/password /all/c/colour /all/memory"), "hellohunter2green67108864");
  EXPECT_THAT(inside("cat /all/labels"), HasSubstr("tier=\"test\""));
  EXPECT_EQ(object["status"]["qosClass"], "Guaranteed");

  constexpr auto kAccount = "/var/run/secrets/kubernetes.io/serviceaccount/";
  EXPECT_EQ(inside(fmt::format("cat {}namespace", kAccount)), "default");
  EXPECT_THAT(inside(fmt::format("cat {}ca.crt", kAccount)), HasSubstr("BEGIN CERTIFICATE"));
  const std::string token = inside(fmt::format("cat {}token", kAccount));
  const auto who = plane_->kubectl_as(token, "auth whoami -o json");
  ASSERT_EQ(who.code, 0) << who.output;
  const Json user = at(Json::parse(who.output, nullptr, false), "/status/userInfo");
  EXPECT_EQ(user["username"], "system:serviceaccount:default:default");
  EXPECT_EQ(user["extra"]["authentication.kubernetes.io/pod-name"], Json::array({"config"}));
  EXPECT_NE(plane_->kubectl_as(inside("cat /all/token"), "auth whoami").code, 0);  // for another audience

  // A ConfigMap's change reaches its files.
  kubectl(R"(patch configmap settings -p '{"data": {"colour": "blue"}}')");
  EXPECT_TRUE(eventually([&] { return inside("cat /settings/colour") == "blue"; }, 20s)) << inside("ls /settings");
  kubectl("delete pod config --grace-period=2");
}

// A static pod is shown by a mirror that its Node owns; the mirror is no way to end it.
TEST_F(ClusterTest, AStaticPodHasAMirror) {
  node_->apply("still.yaml", pod_in_cluster("still", R"(args: [serve, --http, "8080"])"));
  ASSERT_TRUE(eventually([] { return pod_ready("still-node"); }, 20s)) << kubectl("get pods");
  const Json mirror = pod("still-node");
  EXPECT_EQ(at(mirror, "/metadata/ownerReferences/0/kind"), "Node");
  EXPECT_TRUE(mirror["metadata"]["annotations"].contains("kubernetes.io/config.mirror"));
  const auto containers = node_->containers("still-node");
  EXPECT_EQ(containers.size(), 1u);
  kubectl("delete pod still-node --grace-period=0 --force");
  EXPECT_TRUE(eventually([&] { return pod_ready("still-node") && pod("still-node") != mirror; }, 20s));
  EXPECT_EQ(node_->containers("still-node"), containers);
  node_->withdraw("still.yaml");
  EXPECT_TRUE(eventually([] { return pod("still-node").is_null(); }, 45s)) << kubectl("get pods");
  EXPECT_TRUE(node_->containers("still-node", false).empty());
}

TEST_F(ClusterTest, EventsTellAPodsStory) {
  apply(pod_in_cluster("story", R"(command: [sh, -c, "exit 3"])", "restartPolicy: Never"));
  ASSERT_TRUE(eventually([] { return at(pod("story"), "/status/phase") == "Failed"; }, 20s)) << describe("pod story");
  EXPECT_EQ(at(pod("story"), "/status/containerStatuses/0/state/terminated/exitCode"), 3);
  std::string text;
  EXPECT_TRUE(eventually(
      [&] {
        text = describe("pod story");
        return std::ranges::all_of(std::vector<std::string>{"Scheduled", "Created", "Started"},
                                   [&](const auto& reason) { return text.find(reason) != std::string::npos; });
      },
      10s))
      << text;
  kubectl("delete pod story");
}

// Killed and restarted: not a container is touched, not a restart counted, and the API server is told nothing untrue.
TEST_F(ClusterTest, AnAgentKilledAndRestartedTouchesNothing) {
  deploy(5);
  const std::string tasks = node_->tasks();
  const auto pods = web_pods();
  auto load = node_->load("client", kWeb, 200);
  ASSERT_TRUE(load) << load.error().message();
  node_->kill_agent();
  EXPECT_TRUE(load->goes_on(1));
  const auto started = node_->start_agent();
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_TRUE(load->goes_on(1));
  const Json result = load->end();
  EXPECT_EQ(result.value("failed", -1), 0) << result.dump(1);
  EXPECT_EQ(node_->tasks(), tasks);
  const auto now = web_pods();
  ASSERT_EQ(now.size(), pods.size());
  for (std::size_t i = 0; i < pods.size(); ++i) EXPECT_EQ(now[i]["status"], pods[i]["status"]);
}

// The API server is killed while endpoints come and go; pods run on, and what was missed is made up for.
TEST_F(ClusterTest, AnApiServerKilledWhileEndpointsChurn) {
  deploy(5);
  auto load = node_->load("client", kWeb, 200);
  ASSERT_TRUE(load) << load.error().message();
  kubectl("scale deployment web --replicas=12");
  plane_->kill_api_server();
  EXPECT_TRUE(load->goes_on(1));
  EXPECT_TRUE(eventually([] { return !node_->ctl("status").value("ready", true); }, 10s));
  EXPECT_THAT(Node::fetch("http://127.0.0.1:10256/readyz"), HasSubstr("\"healthy\":true"));

  // An agent that starts meanwhile serves what was in force.
  node_->kill_agent();
  const auto launched = node_->launch_agent();
  ASSERT_TRUE(launched) << launched.error().message();
  EXPECT_TRUE(eventually(
      [] { return Node::fetch("http://127.0.0.1:10256/readyz").find("\"healthy\":true") != std::string::npos; }, 10s))
      << node_->ctl("status").dump(1);
  const Json status = node_->ctl("status");
  EXPECT_FALSE(status.value("ready", true));
  for (const char* kind : {"Service", "EndpointSlice", "Pod"}) {
    EXPECT_THAT(status["missing"].dump(), HasSubstr(fmt::format("api: {}", kind)));
  }
  // Needs no API server. One with a network of its own would wait: nobody knows yet which policies select it.
  node_->apply("alone.yaml", pod_in_cluster("alone", R"(args: [serve, --http, "9080"])", "hostNetwork: true"));
  EXPECT_TRUE(eventually([] { return node_->pod_is("alone-node", "Running", "1/1"); }, 20s))
      << node_->ctl("pod list").dump(1);
  EXPECT_TRUE(load->goes_on(1));

  const auto again = plane_->start_api_server();
  ASSERT_TRUE(again) << again.error().message();
  kubectl("scale deployment web --replicas=3");
  EXPECT_TRUE(eventually([] { return web_is(3); }, 120s)) << kubectl("get pods");
  EXPECT_TRUE(eventually([] { return node_->backends("web") == web_addresses(); }, 10s));
  EXPECT_TRUE(eventually([] { return node_->ctl("status").value("ready", false); }, 40s))
      << node_->ctl("status").dump(1);
  const Json result = load->end();
  EXPECT_EQ(result.value("failed", -1), 0) << result.dump(1);
  EXPECT_TRUE(eventually([] { return pod_ready("alone-node"); }, 20s)) << kubectl("get pods");
  node_->withdraw("alone.yaml");
}

// At the end nothing of any pod is left, here or there.
TEST_F(ClusterTest, NothingIsLeft) {
  kubectl("delete deployment --all");
  kubectl("delete pods --all --grace-period=1 --wait=false");
  EXPECT_TRUE(eventually([] { return node_->leftovers().empty(); }, 30s)) << node_->leftovers();
  EXPECT_THAT(kubectl("get pods -o name"), IsEmpty());
}

}  // namespace
}  // namespace fairlead::e2e
