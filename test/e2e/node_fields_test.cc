// SPDX-License-Identifier: Apache-2.0
// What a whole node makes of the fields of a pod.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "agent/base/ip.h"
#include "test/e2e/node_suite.h"

namespace fairlead::e2e {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testkit::eventually;

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
  const auto says = [](const std::string& line) { return node_->in_pod("full", line).output; };
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
  const auto says = [](const std::string& line) { return node_->in_pod("self", line).output; };
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

// Its address is the node's, and it has no network of its own.
TEST_P(NodeTest, AHostNetworkPodSharesTheNodesNetwork) {
  apply("host", pod_of("host", R"(args: [serve, --http, "9080"])", "hostNetwork: true"));
  expect_running("host");
  EXPECT_THAT(ips("host"), testing::ElementsAre(kNodeV4, kNodeV6));
  EXPECT_EQ(names(node_->get("", fmt::format("http://{}:9080/", kNodeV4), 2)).count("failed"), 0u);
  EXPECT_EQ(node_->ctl("endpoint list"), Json::array());
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

INSTANTIATE_TEST_SUITE_P(Debian, NodeTest, testing::Values(""));
INSTANTIATE_TEST_SUITE_P(V2, NodeTest, testing::Values(FAIRLEAD_GO_BIN));

}  // namespace
}  // namespace fairlead::e2e
