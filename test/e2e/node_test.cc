// SPDX-License-Identifier: Apache-2.0
// A whole node with the agent's own program: pods over each containerd, their network and their Services, from
// manifests. One node serves all cases of a containerd; each case ends with its pods gone and nothing of them left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "agent/base/ip.h"
#include "test/e2e/node_fixture.h"

namespace fairlead::e2e {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;
using testkit::eventually;

constexpr auto kWeb4 = "http://10.96.0.80/";
constexpr auto kWeb6 = "http://[fd00:10:96::80]/";

constexpr auto kService = R"(
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ipFamilyPolicy: RequireDualStack
  clusterIPs: [10.96.0.80, "fd00:10:96::80"]
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: line, port: 81, targetPort: line}
  - {name: datagram, port: 82, targetPort: datagram, protocol: UDP}
)";

// A pod of one container, `container` being the rest of its fields, `spec` the pod's.
std::string pod_of(const std::string& name, const std::string& container, const std::string& spec = "",
                   const std::string& labels = "") {
  return fmt::format(R"(
apiVersion: v1
kind: Pod
metadata: {{name: {}, labels: {{{}}}}}
spec:
  terminationGracePeriodSeconds: 5
  {}
  containers:
  - {{name: main, image: "localhost/fairlead/echo:demo", {}}}
)",
                     name, labels, spec, container);
}

std::string web(const std::string& name, const std::string& more = "") {
  return pod_of(name,
                R"(args: [serve, --http, "8080", --tcp, "8081", --udp, "8082"],
     ports: [{name: http, containerPort: 8080}, {name: line, containerPort: 8081},
             {name: datagram, containerPort: 8082, protocol: UDP}],
     readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1})" +
                    more,
                "", "app: web");
}

std::string client() {
  return pod_of("client", R"(args: [serve, --http, "8080"])");
}

std::string shell(const std::string& name, const std::string& line, const std::string& spec = "",
                  const std::string& container = "") {
  return pod_of(name, fmt::format("command: [sh, -c, '{}']{}", line, container), spec);
}

class NodeTest : public testing::TestWithParam<const char*> {
 protected:
  static void TearDownTestSuite() { node_.reset(); }

  void SetUp() override {
    if (node_ == nullptr) {
      auto made = Node::make(*GetParam() == 0 ? "debian" : "v2", GetParam());
      ASSERT_TRUE(made) << made.error().message();
      node_ = std::move(*made);
      const auto started = node_->start_agent();
      ASSERT_TRUE(started) << started.error().message();
      pins_ = node_->pins();
    }
    ASSERT_TRUE(node_->agent_runs()) << node_->agent_log();
  }

  // After every case: what it made is gone.
  void TearDown() override {
    if (node_ == nullptr) return;
    node_->withdraw_all();
    EXPECT_TRUE(eventually([] { return node_->ctl("pod list") == Json::array() && node_->leftovers().empty(); }, 10s))
        << node_->leftovers() << node_->ctl("pod list").dump(1);
    EXPECT_EQ(node_->pins(), pins_);
    if (HasFailure()) std::cerr << node_->agent_log();
  }

  static void apply(const std::string& name, const std::string& text) { node_->apply(name + ".yaml", text); }
  static void expect_running(const std::string& name, const std::string& ready = "1/1") {
    EXPECT_TRUE(eventually([&] { return node_->pod_is(name, "Running", ready); }, 20s)) << node_->pod(name).dump(1);
  }
  static std::vector<std::string> ips(const std::string& name) {
    return node_->pod(name).value("ips", std::vector<std::string>());
  }
  static int restarts(const std::string& name) {
    const Json pod = node_->pod(name);
    return pod.is_object() ? pod.value("restarts", -1) : -1;
  }
  static std::set<std::string> names(const Answers& answers) {
    std::set<std::string> found;
    for (const auto& [name, times] : answers) found.insert(name);
    return found;
  }
  // Three web pods behind the Service, and the client.
  static void start_web() {
    apply("service", kService);
    for (const char* name : {"client", "web-1", "web-2", "web-3"}) {
      apply(name, name == std::string("client") ? client() : web(name));
    }
    for (const char* name : {"client", "web-1", "web-2", "web-3"}) expect_running(name);
    EXPECT_TRUE(eventually([] { return node_->backends("web").size() == 3; }, 5s)) << node_->ctl("backend list").dump();
  }

  static std::unique_ptr<Node> node_;
  static std::set<std::string> pins_;
};
std::unique_ptr<Node> NodeTest::node_;
std::set<std::string> NodeTest::pins_;

TEST_P(NodeTest, PodsRunWithAddressesOfThePodRange) {
  apply("a", client());
  apply("b", web("web-1"));
  expect_running("client");
  expect_running("web-1");
  std::set<std::string> all;
  for (const char* name : {"client", "web-1"}) {
    const std::vector<std::string> addresses = ips(name);
    ASSERT_EQ(addresses.size(), 2u) << node_->pod(name).dump();
    EXPECT_TRUE(Cidr::parse(kPodsV4)->contains(*IpAddress::parse(addresses[0]))) << addresses[0];
    EXPECT_TRUE(Cidr::parse(kPodsV6)->contains(*IpAddress::parse(addresses[1]))) << addresses[1];
    const std::string seen = node_->in_pod(name, "ip -o address show dev eth0").output;
    for (const std::string& address : addresses) {
      EXPECT_THAT(seen, HasSubstr(" " + address + "/")) << name;
      all.insert(address);
    }
  }
  EXPECT_EQ(all.size(), 4u);
  // Directly, without a Service: from a pod and from the node.
  const std::string direct = fmt::format("http://{}:8080/", ips("web-1")[0]);
  EXPECT_EQ(node_->get("client", direct, 3), (Answers{{"web-1", 3}}));
  EXPECT_EQ(node_->get("", direct, 3), (Answers{{"web-1", 3}}));
  EXPECT_EQ(node_->ctl("endpoint list").size(), 2u);
}

TEST_P(NodeTest, AServiceAnswersFromAllItsBackends) {
  start_web();
  for (const std::string& from : {std::string(), std::string("client")}) {
    for (const std::string& url : {std::string(kWeb4), std::string(kWeb6), std::string("tcp://10.96.0.80:81"),
                                   std::string("udp://10.96.0.80:82"), std::string("udp://[fd00:10:96::80]:82")}) {
      EXPECT_THAT(names(node_->get(from, url, 60)), UnorderedElementsAre("web-1", "web-2", "web-3"))
          << "from " << (from.empty() ? "the node" : from) << " " << url;
    }
  }
  // A pod reaches itself through its Service, too.
  EXPECT_THAT(names(node_->get("web-1", kWeb4, 60)), UnorderedElementsAre("web-1", "web-2", "web-3"));
}

TEST_P(NodeTest, ReadinessGatesBackends) {
  apply("service", kService);
  apply("client", client());
  const auto server = [](const std::string& name, const std::string& line, const std::string& probe) {
    return pod_of(name,
                  fmt::format(R"(command: [sh, -c, '{}'],
     ports: [{{name: http, containerPort: 8080}}], readinessProbe: {{{}, periodSeconds: 1, failureThreshold: 1}})",
                              line, probe),
                  "", "app: web");
  };
  apply("http", server("http", "touch /tmp/unready; exec fl-echo serve --http 8080 --unready-file /tmp/unready",
                       "httpGet: {path: /healthz, port: http}"));
  apply("tcp",
        server("tcp",
               "fl-echo serve --http 8080 & until [ -e /tmp/go ]; do sleep 0.1; done; exec fl-echo serve --tcp 8081",
               "tcpSocket: {port: 8081}"));
  apply("exec", server("exec", "exec fl-echo serve --http 8080", "exec: {command: [test, -e, /tmp/go]}"));
  for (const char* name : {"http", "tcp", "exec"}) expect_running(name, "0/1");
  expect_running("client");
  // Long enough for several probes: what is not ready stays out.
  EXPECT_EQ(node_->get("client", "http://10.96.0.80/", 10), (Answers{{"failed", 10}}));
  EXPECT_THAT(node_->backends("web"), IsEmpty());

  std::set<std::string> ready;
  const auto serve_only_ready = [&] {
    EXPECT_TRUE(eventually([&] { return node_->backends("web").size() == ready.size(); }, 10s))
        << node_->ctl("backend list").dump();
    EXPECT_EQ(names(node_->get("client", kWeb4, 60)), ready);
  };
  for (const auto& [name, open] : std::map<std::string, std::string>{
           {"http", "rm /tmp/unready"}, {"tcp", "touch /tmp/go"}, {"exec", "touch /tmp/go"}}) {
    EXPECT_EQ(node_->in_pod(name, open).code, 0);
    expect_running(name);
    ready.insert(name);
    serve_only_ready();
  }
  for (const auto& [name, close] :
       std::map<std::string, std::string>{{"http", "touch /tmp/unready"}, {"exec", "rm /tmp/go"}}) {
    EXPECT_EQ(node_->in_pod(name, close).code, 0);
    expect_running(name, "0/1");
    ready.erase(name);
    serve_only_ready();
  }
  for (const char* name : {"http", "tcp", "exec"}) EXPECT_EQ(restarts(name), 0) << name;
}

TEST_P(NodeTest, AFailedLivenessProbeRestartsTheContainer) {
  apply("live", pod_of("live", R"(args: [serve, --http, "8080", --unready-file, /tmp/unready],
     livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 2})"));
  apply("steady", pod_of("steady", R"(args: [serve, --http, "8080"],
     livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1, failureThreshold: 1})"));
  expect_running("live");
  expect_running("steady");
  const auto before = node_->containers("live");
  const auto addresses = ips("live");
  EXPECT_EQ(node_->in_pod("live", "touch /tmp/unready").code, 0);
  EXPECT_TRUE(eventually([] { return restarts("live") == 1; }, 20s)) << node_->pod("live").dump();
  expect_running("live");
  EXPECT_NE(node_->containers("live"), before);
  EXPECT_EQ(ips("live"), addresses);  // the sandbox stayed
  EXPECT_EQ(restarts("steady"), 0);
}

TEST_P(NodeTest, TheRestartPolicyDecides) {
  const std::string on_failure = "restartPolicy: OnFailure", never = "restartPolicy: Never";
  const std::string volume = "\n  volumes: [{name: v, emptyDir: {}}]";
  const std::string mount = ", volumeMounts: [{name: v, mountPath: /v}]";
  apply("done", shell("done", "exit 0", on_failure));
  apply("retried", shell("retried", "[ -e /v/seen ] && exit 0; touch /v/seen; exit 3", on_failure + volume, mount));
  apply("failed", shell("failed", "exit 3", never));
  apply("once", shell("once", "exit 0", never));
  for (const auto& [name, expected] : std::map<std::string, std::string>{
           {"done", "Succeeded"}, {"retried", "Succeeded"}, {"failed", "Failed"}, {"once", "Succeeded"}}) {
    EXPECT_TRUE(eventually([&] { return node_->pod_text(name, "phase") == expected; }, 30s))
        << node_->ctl("pod get " + name).dump(1);
  }
  EXPECT_EQ(restarts("retried"), 1);
  for (const char* name : {"done", "failed", "once"}) EXPECT_EQ(restarts(name), 0) << name;
}

TEST_P(NodeTest, InitContainersRunInOrderBeforeTheApp) {
  apply("ordered", R"(
apiVersion: v1
kind: Pod
metadata: {name: ordered}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {}}]
  initContainers:
  - {name: one, image: "localhost/fairlead/busybox:demo", command: [sh, -c, "sleep 0.5; echo one >>/v/order"],
     volumeMounts: [{name: v, mountPath: /v}]}
  - {name: two, image: "localhost/fairlead/busybox:demo", command: [sh, -c, "sleep 0.2; echo two >>/v/order"],
     volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - {name: main, image: "localhost/fairlead/busybox:demo", command: [sh, -c, "echo main >>/v/order; exec sleep 1000"],
     volumeMounts: [{name: v, mountPath: /v}]}
)");
  expect_running("ordered");
  EXPECT_EQ(node_->in_pod("ordered", "cat /v/order").output, "one\ntwo\nmain\n");
}

TEST_P(NodeTest, AFailingInitContainerKeepsTheAppFromRunning) {
  apply("stuck", R"(
apiVersion: v1
kind: Pod
metadata: {name: stuck}
spec:
  restartPolicy: Never
  initContainers:
  - {name: one, image: "localhost/fairlead/busybox:demo", command: [sh, -c, "exit 7"]}
  containers:
  - {name: main, image: "localhost/fairlead/busybox:demo", command: [sleep, "1000"]}
)");
  EXPECT_TRUE(eventually([] { return node_->pod_text("stuck", "phase") == "Failed"; }, 20s))
      << node_->ctl("pod get stuck").dump(1);
  EXPECT_EQ(node_->containers("stuck", false).size(), 1u);
}

TEST_P(NodeTest, EnvironmentAndVolumesReachTheContainer) {
  const std::filesystem::path host = node_->folder() / "host";
  std::ofstream(host / "given") << "from the host\n";
  apply("data", R"(
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue, "file.txt": "a file\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
)");
  apply("pod", fmt::format(R"(
apiVersion: v1
kind: Pod
metadata: {{name: full, labels: {{tier: front}}}}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {{name: settings, configMap: {{name: settings}}}}
  - {{name: keys, secret: {{secretName: keys, defaultMode: 0400}}}}
  - {{name: scratch, emptyDir: {{}}}}
  - {{name: memory, emptyDir: {{medium: Memory}}}}
  - {{name: host, hostPath: {{path: {}, type: Directory}}}}
  containers:
  - name: main
    image: localhost/fairlead/busybox:demo
    command: [sh, -c, "exec sleep 1000"]
    envFrom: [{{prefix: SET_, configMapRef: {{name: settings}}}}]
    env:
    - {{name: PLAIN, value: one}}
    - {{name: MADE, value: "$(PLAIN) and two"}}
    - {{name: COLOR, valueFrom: {{configMapKeyRef: {{name: settings, key: color}}}}}}
    - {{name: TOKEN, valueFrom: {{secretKeyRef: {{name: keys, key: token}}}}}}
    - {{name: TIER, valueFrom: {{fieldRef: {{fieldPath: "metadata.labels['tier']"}}}}}}
    - {{name: ADDRESS, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
    volumeMounts:
    - {{name: settings, mountPath: /settings}}
    - {{name: settings, mountPath: /single.txt, subPath: file.txt}}
    - {{name: keys, mountPath: /keys, readOnly: true}}
    - {{name: scratch, mountPath: /scratch}}
    - {{name: memory, mountPath: /memory}}
    - {{name: host, mountPath: /host}}
)",
                           host.string()));
  expect_running("full");
  // ctr may end before it has copied what a short command printed: then it is asked again.
  const auto says = [](const std::string& line) {
    std::string output;
    eventually([&] { return !(output = node_->in_pod("full", line).output).empty(); }, 5s);
    return output;
  };
  EXPECT_EQ(says("echo $PLAIN, $MADE, $COLOR, $TOKEN, $TIER, $SET_color"),
            "one, one and two, blue, s3cret, front, blue\n");
  EXPECT_EQ(says("echo $ADDRESS"), ips("full").at(0) + "\n");
  EXPECT_EQ(says("cat /settings/color /settings/file.txt /single.txt"), "bluea file\na file\n");
  EXPECT_EQ(says("cat /keys/token; stat -L -c %a /keys/token"), "s3cret400\n");
  EXPECT_NE(node_->in_pod("full", "touch /keys/new").code, 0);
  EXPECT_EQ(says("echo kept >/scratch/f; cat /scratch/f"), "kept\n");
  EXPECT_THAT(says("grep /memory /proc/mounts"), HasSubstr("tmpfs"));
  EXPECT_EQ(says("cat /host/given; echo back >/host/taken"), "from the host\n");
  std::ifstream taken(host / "taken");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(taken), {}), "back\n");
  EXPECT_THAT(says("cat /etc/hosts"), HasSubstr(ips("full").at(0)));
}

// What a pod may read of itself and its node, whom it runs as, and what runs around its container.
TEST_P(NodeTest, APodReadsOfItselfAndRunsAsItIsTold) {
  apply("service", kService);
  apply("pod", R"(
apiVersion: v1
kind: Pod
metadata: {name: self, labels: {tier: front}, annotations: {note: "line 1"}}
spec:
  terminationGracePeriodSeconds: 10
  securityContext: {runAsUser: 1234, runAsGroup: 2345, fsGroup: 3456, supplementalGroups: [4567]}
  hostAliases: [{ip: 192.0.2.9, hostnames: [far.example]}]
  dnsConfig: {searches: [pods.example]}
  volumes:
  - name: info
    projected:
      defaultMode: 0400
      sources:
      - downwardAPI:
          items:
          - {path: labels, fieldRef: {fieldPath: metadata.labels}}
          - {path: memory, resourceFieldRef: {containerName: main, resource: limits.memory, divisor: 1Mi}}
      - configMap: {name: nowhere, optional: true}
  - {name: out, emptyDir: {}}
  containers:
  - name: main
    image: localhost/fairlead/busybox:demo
    command: [sh, -c, "trap exit TERM; while :; do sleep 0.1; done"]
    env:
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: HOSTS, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}
    resources: {limits: {memory: 48Mi, cpu: 250m}}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      runAsNonRoot: true
      capabilities: {drop: [ALL]}
      seccompProfile: {type: RuntimeDefault}
    startupProbe: {exec: {command: [test, -e, /out/begun]}, periodSeconds: 1, failureThreshold: 60}
    lifecycle:
      postStart: {exec: {command: [sh, -c, "echo begun >/out/begun"]}}
      preStop: {exec: {command: [sh, -c, "echo ending; sleep 1"]}}
    volumeMounts:
    - {name: info, mountPath: /info}
    - {name: out, mountPath: /out}
)");
  expect_running("self");
  const auto says = [](const std::string& line) {
    std::string output;
    eventually([&] { return !(output = node_->in_pod("self", line).output).empty(); }, 5s);
    return output;
  };
  EXPECT_EQ(says("cat /info/labels; echo; cat /info/memory"), "tier=\"front\"\n48");
  EXPECT_EQ(says("stat -L -c %a:%g /info/labels"), "440:3456\n");
  EXPECT_EQ(says("echo $HOSTS $CPU"), fmt::format("{},{} 250\n", kNodeV4, kNodeV6));
  EXPECT_NE(says("echo $NODE"), "\n");
  EXPECT_EQ(says("echo $WEB_SERVICE_HOST $WEB_SERVICE_PORT_LINE $WEB_PORT_82_UDP"),
            "10.96.0.80 81 udp://10.96.0.80:82\n");
  EXPECT_THAT(says("cat /etc/hosts"), HasSubstr("192.0.2.9\tfar.example\n"));
  EXPECT_THAT(says("cat /etc/resolv.conf"), HasSubstr("pods.example"));
  EXPECT_EQ(says("grep -E ^[UG]id: /proc/1/status | tr -s \"[:blank:]\" \" \""),
            "Uid: 1234 1234 1234 1234\nGid: 2345 2345 2345 2345\n");
  EXPECT_THAT(says("grep ^Groups: /proc/1/status"), AllOf(HasSubstr("3456"), HasSubstr("4567")));
  EXPECT_EQ(says("grep -E \"^(CapEff|NoNewPrivs|Seccomp):\" /proc/1/status | tr -d \"[:blank:]\""),
            "CapEff:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n");
  EXPECT_NE(node_->in_pod("self", "touch /tmp/x").code, 0);
  const Json status = node_->ctl("pod get self").value("object_status", Json());
  EXPECT_EQ(status["containerStatuses"][0]["started"], true) << status.dump(1);
  EXPECT_THAT(status["containerStatuses"][0]["containerID"].get<std::string>(), testing::StartsWith("containerd://"));

  // preStop runs before SIGTERM, which this container heeds at once.
  const auto began = std::chrono::steady_clock::now();
  node_->withdraw("pod.yaml");
  EXPECT_TRUE(eventually([] { return node_->pod("self").is_null(); }, 15s));
  const auto took = std::chrono::steady_clock::now() - began;
  EXPECT_GE(took, 1s);
  EXPECT_LT(took, 9s);
}

// Nobody here gives tokens: a pod that asks for one waits, and says why.
TEST_P(NodeTest, ATokenNeedsAnApiServer) {
  apply("token",
        shell("token", "exec sleep 1000",
              "serviceAccountName: default\n  volumes: [{name: access, projected: {sources: [{serviceAccountToken: "
              "{path: token}}]}}]"));
  EXPECT_TRUE(eventually([] { return node_->ctl("pod get token").dump().contains("comes from an API server"); }, 10s))
      << node_->ctl("pod get token").dump(1);
  EXPECT_THAT(node_->containers("token", false), IsEmpty());
}

TEST_P(NodeTest, RefusedFieldsAreNamedAndNeverRun) {
  apply("profile", shell("profile", "exec sleep 1000",
                         "securityContext: {seccompProfile: {type: Localhost, localhostProfile: a.json}}"));
  apply("users", shell("host-users", "exec sleep 1000", "hostUsers: false"));
  apply("unknown", shell("unknown", "exec sleep 1000", "hostPidd: true"));
  apply("claim", shell("claim", "exec sleep 1000", "volumes: [{name: a, persistentVolumeClaim: {claimName: a}}]"));
  apply("good", client());
  expect_running("client");  // by now, the others would have been started too
  EXPECT_THAT(node_->refused("profile"), Contains(HasSubstr("spec.securityContext.seccompProfile.type: ")));
  EXPECT_THAT(node_->refused("host-users"), Contains(HasSubstr("spec.hostUsers: ")));
  EXPECT_THAT(node_->refused("unknown"), Contains(HasSubstr("hostPidd")));
  EXPECT_THAT(node_->refused("claim"), Contains(HasSubstr("spec.volumes[0].persistentVolumeClaim")));
  for (const char* name : {"profile", "host-users", "unknown", "claim"}) {
    EXPECT_TRUE(node_->pod(name).is_null()) << node_->pod(name).dump();
    EXPECT_THAT(node_->containers(name, false), IsEmpty());
  }
  EXPECT_EQ(node_->all_containers().size(), 2u);  // the client's, and its sandbox
}

TEST_P(NodeTest, ABackendDeletedUnderLoadLosesNoRequest) {
  start_web();
  auto load = node_->load("client", kWeb4, 500);
  ASSERT_TRUE(load) << load.error().message();
  node_->withdraw("web-3.yaml");
  EXPECT_TRUE(eventually([] { return node_->pod("web-3").is_null(); }, 20s)) << node_->pod("web-3").dump();
  EXPECT_TRUE(load->goes_on(1));
  const Json report = load->end();
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report["failed"], 0) << report.dump();
  EXPECT_GE(report["new_connections"], 1000) << report.dump();
  EXPECT_GT(report["by_backend"]["web-3"], 0) << report.dump();
  EXPECT_THAT(names(node_->get("client", kWeb4, 40)), UnorderedElementsAre("web-1", "web-2"));
}

TEST_P(NodeTest, AKilledAgentComesBackAndNothingNoticed) {
  start_web();
  const std::string tasks = node_->tasks();
  const Json endpoints = node_->ctl("endpoint list");
  const auto backends = node_->backends("web");
  auto load = node_->load("client", kWeb4, 500);
  ASSERT_TRUE(load) << load.error().message();
  node_->kill_agent();
  EXPECT_TRUE(load->goes_on(1));
  const auto started = node_->start_agent();
  ASSERT_TRUE(started) << started.error().message();
  for (const char* name : {"client", "web-1", "web-2", "web-3"}) expect_running(name);
  EXPECT_TRUE(load->goes_on(1));
  const Json report = load->end();
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report["failed"], 0) << report.dump();
  EXPECT_GE(report["new_connections"], 1000) << report.dump();
  EXPECT_EQ(node_->tasks(), tasks);
  EXPECT_EQ(node_->ctl("endpoint list"), endpoints);
  EXPECT_EQ(node_->backends("web"), backends);
  for (const char* name : {"client", "web-1", "web-2", "web-3"}) EXPECT_EQ(restarts(name), 0) << name;
}

TEST_P(NodeTest, AStoppedAgentLeavesPodsAndTheNextOneRemovesOrphans) {
  apply("stays", client());
  apply("goes", web("web-1"));
  expect_running("client");
  expect_running("web-1");
  const std::string tasks = node_->tasks();
  EXPECT_EQ(node_->stop_agent(), 0) << node_->agent_log();
  EXPECT_EQ(node_->tasks(), tasks);
  node_->withdraw("goes.yaml");
  const auto client = node_->containers("client");
  const auto started = node_->start_agent();
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_TRUE(
      eventually([] { return node_->containers("web-1", false).empty() && node_->all_containers().size() == 2; }, 20s))
      << node_->tasks();
  EXPECT_TRUE(eventually([] { return node_->ctl("endpoint list").size() == 1; }, 5s))
      << node_->ctl("endpoint list").dump();
  expect_running("client");
  EXPECT_EQ(node_->containers("client"), client);
}

TEST_P(NodeTest, ABadManifestKeepsTheLastGoodVersion) {
  apply("web", web("web-1"));
  expect_running("web-1");
  const auto before = node_->containers("web-1");
  EXPECT_EQ(node_->ctl("status").value("refused", Json()), Json::array());
  apply("web", web("web-1", ", nonsense: 1"));
  EXPECT_TRUE(eventually([] { return !node_->refused("web-1").empty(); }, 10s));
  EXPECT_THAT(node_->refused("web-1"), Contains(HasSubstr("nonsense")));
  node_->kill_agent();
  const auto started = node_->start_agent();
  ASSERT_TRUE(started) << started.error().message();
  expect_running("web-1");
  EXPECT_THAT(node_->refused("web-1"), Contains(HasSubstr("nonsense")));
  EXPECT_EQ(node_->containers("web-1"), before);
  apply("web", web("web-1"));
  EXPECT_TRUE(eventually([] { return node_->refused("web-1").empty(); }, 10s));
  EXPECT_EQ(node_->containers("web-1"), before);
}

// A pod's immutable field changes: the old one ends, then the new one runs.
TEST_P(NodeTest, AChangedPodIsReplaced) {
  apply("web", web("web-1"));
  expect_running("web-1");
  const std::string uid = node_->pod_text("web-1", "uid");
  const auto before = node_->containers("web-1");
  apply("web", web("web-1", ", env: [{name: POD_NAME, value: renamed}]"));
  EXPECT_TRUE(
      eventually([&] { return node_->containers("web-1") != before && node_->pod_text("web-1", "uid") != uid; }, 20s));
  expect_running("web-1");
  EXPECT_EQ(node_->get("", fmt::format("http://{}:8080/", ips("web-1").at(0)), 2), (Answers{{"renamed", 2}}));
  EXPECT_EQ(node_->containers("web-1", false).size(), 1u);
}

TEST_P(NodeTest, APodThatIgnoresSigtermIsKilledAfterItsGracePeriod) {
  apply("deaf", shell("deaf", "trap true TERM; while true; do sleep 0.1; done", "", ""));
  expect_running("deaf");
  const auto from = std::chrono::steady_clock::now();
  node_->withdraw("deaf.yaml");
  EXPECT_TRUE(eventually([] { return node_->pod("deaf").is_null(); }, 20s));
  const auto took = std::chrono::steady_clock::now() - from;
  EXPECT_GE(took, 4900ms);
  EXPECT_LT(took, 8s);
}

// Its address is the node's, and it has no network of its own.
TEST_P(NodeTest, AHostNetworkPodSharesTheNodesNetwork) {
  apply("host", pod_of("host", R"(args: [serve, --http, "9080"])", "hostNetwork: true"));
  expect_running("host");
  EXPECT_THAT(ips("host"), testing::ElementsAre(kNodeV4, kNodeV6));
  EXPECT_EQ(names(node_->get("", fmt::format("http://{}:9080/", kNodeV4), 2)).count("failed"), 0u);
  EXPECT_EQ(node_->ctl("endpoint list"), Json::array());
}

TEST_P(NodeTest, ACrashingContainerBacksOff) {
  apply("crash", shell("crash", "exit 3"));
  EXPECT_TRUE(eventually([] { return node_->pod_text("crash", "status") == "CrashLoopBackOff"; }, 20s))
      << node_->ctl("pod get crash").dump(1);
  EXPECT_EQ(restarts("crash"), 1);
  EXPECT_EQ(node_->pod_text("crash", "phase"), "Running");
}

TEST_P(NodeTest, AMissingImageIsNamed) {
  apply("bare", R"(
apiVersion: v1
kind: Pod
metadata: {name: bare}
spec:
  containers:
  - {name: main, image: "localhost/fairlead/absent:demo", imagePullPolicy: Never}
)");
  EXPECT_TRUE(eventually([] { return node_->pod_text("bare", "status") == "ErrImageNeverPull"; }, 20s))
      << node_->ctl("pod get bare").dump(1);
  EXPECT_EQ(node_->pod_text("bare", "phase"), "Pending");
}

TEST_P(NodeTest, AKilledContainerAndAKilledSandboxComeBack) {
  apply("service", kService);
  apply("web", web("web-1"));
  expect_running("web-1");
  const auto first = node_->containers("web-1");
  ASSERT_EQ(first.size(), 1u);
  node_->kill_task(*first.begin());
  EXPECT_TRUE(eventually([] { return restarts("web-1") == 1; }, 20s)) << node_->pod("web-1").dump();
  expect_running("web-1");
  EXPECT_TRUE(eventually([] { return names(node_->get("", kWeb4, 5)) == std::set<std::string>{"web-1"}; }, 5s));

  const std::string sandbox = node_->sandbox("web-1");
  ASSERT_NE(sandbox, "");
  node_->kill_task(sandbox);
  EXPECT_TRUE(eventually([&] { return !node_->sandbox("web-1").empty() && node_->sandbox("web-1") != sandbox; }, 20s))
      << node_->tasks();
  expect_running("web-1");
  EXPECT_EQ(node_->ctl("endpoint list").size(), 1u);
  EXPECT_TRUE(eventually([] { return names(node_->get("", kWeb4, 5)) == std::set<std::string>{"web-1"}; }, 5s));
}

// Killed at many moments of pods' starts and ends: what was begun is adopted, never made twice, never forgotten.
TEST_P(NodeTest, AnAgentKilledAtAnyMomentLeaksNothing) {
  for (const auto after : {30ms, 90ms, 160ms, 260ms}) {
    for (const char* name : {"web-1", "web-2", "web-3"}) apply(name, web(name));
    EXPECT_FALSE(eventually([] { return !node_->agent_runs(); }, after));
    node_->kill_agent();
    const auto started = node_->start_agent();
    ASSERT_TRUE(started) << started.error().message();
    for (const char* name : {"web-1", "web-2", "web-3"}) {
      expect_running(name);
      EXPECT_EQ(node_->containers(name).size(), 1u) << name;
    }
    // A start that was cut off with its caller's connection is an exited container, and restarted as such.
    const std::string tasks = node_->tasks();
    EXPECT_EQ(std::ranges::count(tasks, '\n'), 6) << tasks;
    EXPECT_EQ(node_->ctl("endpoint list").size(), 3u);
    node_->withdraw_all();
    EXPECT_FALSE(eventually([] { return !node_->agent_runs(); }, after));
    node_->kill_agent();
    const auto again = node_->start_agent();
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_TRUE(eventually([] { return node_->leftovers().empty(); }, 20s)) << node_->leftovers();
  }
}

TEST_P(NodeTest, ARuntimeThatComesBackIsTakenUpAgain) {
  apply("client", client());
  expect_running("client");
  const std::string tasks = node_->tasks();
  node_->kill_containerd();
  EXPECT_TRUE(eventually([] { return !node_->ctl("status").value("ready", true); }, 10s))
      << node_->ctl("status").dump();
  apply("web", web("web-1"));
  const auto started = node_->start_containerd();
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_TRUE(eventually([] { return node_->ctl("status").value("ready", false); }, 20s))
      << node_->ctl("status").dump();
  expect_running("client");
  expect_running("web-1");
  EXPECT_EQ(restarts("client"), 0);
  for (const std::string& id : node_->containers("client")) EXPECT_THAT(tasks, HasSubstr(id));
}

TEST_P(NodeTest, HealthAndMetricsAreServed) {
  apply("client", client());
  expect_running("client");
  EXPECT_THAT(Node::fetch("http://127.0.0.1:10256/readyz"), HasSubstr("\"healthy\":true"));
  EXPECT_THAT(Node::fetch("http://127.0.0.1:10256/livez"), HasSubstr("\"healthy\":true"));
  const std::string metrics = Node::fetch("http://127.0.0.1:10249/metrics");
  EXPECT_THAT(metrics, HasSubstr("\nfairlead_ready 1\n"));
  for (const char* component : {"manifests", "pods", "services"}) {
    EXPECT_THAT(metrics, HasSubstr(fmt::format("\nfairlead_component_synced{{component=\"{}\"}} 1\n", component)));
  }
  EXPECT_THAT(metrics, HasSubstr("\nfairlead_ipam_addresses{family=\"4\",state=\"used\"} 1\n"));
}

TEST_P(NodeTest, CleanupTakesAllOutOfTheKernel) {
  EXPECT_EQ(node_->agent_does("cleanup").code, 1);  // refused: the agent runs
  EXPECT_TRUE(node_->agent_runs());
  EXPECT_EQ(node_->stop_agent(), 0) << node_->agent_log();
  const auto cleaned = node_->agent_does("cleanup");
  EXPECT_EQ(cleaned.code, 0) << cleaned.output;
  EXPECT_THAT(node_->pins(), IsEmpty());
  const auto started = node_->start_agent();
  ASSERT_TRUE(started) << started.error().message();
}

INSTANTIATE_TEST_SUITE_P(Debian, NodeTest, testing::Values(""));
INSTANTIATE_TEST_SUITE_P(V2, NodeTest, testing::Values(FAIRLEAD_GO_BIN));

}  // namespace
}  // namespace fairlead::e2e

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return fairlead::e2e::run_as_node([] { return RUN_ALL_TESTS(); });
}
