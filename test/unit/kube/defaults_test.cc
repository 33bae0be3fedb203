// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/defaults/defaults.h"

#include <gtest/gtest.h>
#include <k8s/config.pb.h>
#include <k8s/endpointslice.pb.h>
#include <k8s/pod.pb.h>
#include <k8s/service.pb.h>

#include "agent/base/result.h"
#include "test/unit/kube/read.h"

namespace fairlead::kube {
namespace {

nlohmann::json plain(const google::protobuf::Message& message) {
  return nlohmann::json::parse(to_json(message).dump());
}
nlohmann::json plain(const char* text) {
  return nlohmann::json::parse(text);
}

TEST(Defaults, OfAPod) {
  auto pod = read_text<k8s::Pod>(R"(
spec:
  volumes: [{name: a}, {name: b, configMap: {name: x}}, {name: c, secret: {secretName: x, defaultMode: 0400}}]
  initContainers: [{name: i, image: "r:5000/x"}]
  containers:
  - name: c
    image: x:1
    ports: [{containerPort: 80}]
    env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    resources: {limits: {cpu: 0.0001, memory: 1Gi}, requests: {memory: 1Mi}}
    livenessProbe: {httpGet: {port: 80}}
    readinessProbe: {exec: {command: [x]}, periodSeconds: 3, failureThreshold: 7}
)");
  default_pod(pod);
  EXPECT_EQ(plain(pod), plain(R"({"spec": {
    "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
    "terminationGracePeriodSeconds": 30, "enableServiceLinks": true, "securityContext": {},
    "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "x", "defaultMode": 420}},
                {"name": "c", "secret": {"secretName": "x", "defaultMode": 256}}],
    "initContainers": [{"name": "i", "image": "r:5000/x", "imagePullPolicy": "Always", "resources": {},
      "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
    "containers": [{"name": "c", "image": "x:1", "imagePullPolicy": "IfNotPresent",
      "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
      "ports": [{"containerPort": 80, "protocol": "TCP"}],
      "env": [{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
      "resources": {"limits": {"cpu": "1m", "memory": "1Gi"}, "requests": {"cpu": "1m", "memory": "1Mi"}},
      "livenessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1,
        "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
      "readinessProbe": {"exec": {"command": ["x"]}, "timeoutSeconds": 1, "periodSeconds": 3, "successThreshold": 1,
        "failureThreshold": 7}}]}})"));
  const k8s::Pod once = pod;
  default_pod(pod);
  EXPECT_EQ(plain(pod), plain(once)) << "a second time changes nothing";
}

TEST(Defaults, AmountsOfAnySizeAreRoundedToThousandths) {
  const std::pair<const char*, const char*> kCases[] = {
      {"1500u", "2m"}, {"1E", "1E"}, {"-9E", "-9E"}, {"-99999999999999999999", "-9223372036854775807"}};
  for (const auto& [memory, rounded] : kCases) {
    auto pod = read_text<k8s::Pod>(
        fmt::format("spec: {{containers: [{{name: c, resources: {{limits: {{memory: {}}}}}}}]}}\n", memory));
    default_pod(pod);
    EXPECT_EQ(pod.spec().containers(0).resources().limits().at("memory").string(), rounded) << memory;
  }
}

TEST(Defaults, SetFieldsStayAndHostPortsFollowTheHostNetwork) {
  auto pod = read_text<k8s::Pod>(
      "spec: {hostNetwork: true, terminationGracePeriodSeconds: 0, enableServiceLinks: false, restartPolicy: Never,\n"
      "  containers: [{name: c, image: x, imagePullPolicy: Never, ports: [{containerPort: 80, protocol: UDP}]}]}\n");
  default_pod(pod);
  EXPECT_EQ(pod.spec().terminationgraceperiodseconds(), 0);
  EXPECT_FALSE(pod.spec().enableservicelinks());
  EXPECT_EQ(pod.spec().restartpolicy(), "Never");
  EXPECT_EQ(pod.spec().containers(0).imagepullpolicy(), "Never");
  EXPECT_EQ(pod.spec().containers(0).ports(0).hostport(), 80);
  EXPECT_EQ(pod.spec().containers(0).ports(0).protocol(), "UDP");
}

TEST(Defaults, PullPolicyByTag) {
  const std::pair<const char*, const char*> kCases[] = {{"x", "Always"},
                                                        {"x:latest", "Always"},
                                                        {"x:1", "IfNotPresent"},
                                                        {"r:5000/x", "Always"},
                                                        {"r:5000/a/x:1", "IfNotPresent"},
                                                        {"x@sha256:abc", "IfNotPresent"},
                                                        {"r/x:latest@sha256:abc", "IfNotPresent"},
                                                        {"", "Always"}};
  for (const auto& [image, policy] : kCases) EXPECT_EQ(default_pull_policy(image), policy) << image;
}

TEST(Defaults, OfServices) {
  const std::pair<const char*, const char*> kCases[] = {
      {"spec: {ports: [{port: 80}]}",
       R"({"spec": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
           "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}})"},
      {"spec: {sessionAffinity: ClientIP, clusterIP: 10.0.0.1, ports: [{port: 80, targetPort: web, protocol: UDP}]}",
       R"({"spec": {"type": "ClusterIP", "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster",
           "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
           "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
           "ports": [{"port": 80, "protocol": "UDP", "targetPort": "web"}]}})"},
      {"spec: {sessionAffinity: None, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}, clusterIPs: [None]}",
       R"({"spec": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
           "clusterIP": "None", "clusterIPs": ["None"]}})"},
      {"spec: {type: LoadBalancer}",
       R"({"spec": {"type": "LoadBalancer", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
           "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true}})"},
      {"spec: {type: ExternalName, externalName: a.b}",
       R"({"spec": {"type": "ExternalName", "externalName": "a.b", "sessionAffinity": "None"}})"},
  };
  for (const auto& [text, expected] : kCases) {
    auto service = read_text<k8s::Service>(text);
    default_service(service);
    EXPECT_EQ(plain(service), plain(expected)) << text;
  }
}

TEST(Defaults, OfTheOthers) {
  auto slice = read_text<k8s::EndpointSlice>("ports: [{port: 1}]\n");
  default_endpoint_slice(slice);
  EXPECT_EQ(plain(slice), plain(R"({"ports": [{"name": "", "port": 1, "protocol": "TCP"}]})"));
  auto secret = read_text<k8s::Secret>("data: {a: YQ==, b: Yg==}\nstringData: {b: text}\n");
  default_secret(secret);
  EXPECT_EQ(plain(secret), plain(R"({"type": "Opaque", "data": {"a": "YQ==", "b": "dGV4dA=="}})"));
  auto pod = read_text<k8s::Pod>(
      "metadata: {name: a, uid: u, resourceVersion: \"5\", generation: 3, creationTimestamp: 2026-01-01T00:00:00Z, "
      "labels: {a: b}}\n");
  default_manifest_meta(*pod.mutable_metadata());
  EXPECT_EQ(plain(pod), plain(R"({"metadata": {"name": "a", "namespace": "default", "labels": {"a": "b"}}})"));
}

}  // namespace
}  // namespace fairlead::kube
