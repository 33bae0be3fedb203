// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/fields/fields.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/unknown_field_set.h>
#include <k8s/pod.pb.h>
#include <k8s/service.pb.h>

#include <set>

#include "agent/base/result.h"
#include "agent/kube/defaults/defaults.h"
#include "agent/kube/fields/table.h"
#include "test/unit/kube/read.h"

namespace fairlead::kube {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Visits every field that acted-on fields lead to.
void walk(const google::protobuf::Descriptor* type, std::set<std::string>& seen, std::vector<std::string>& unclassed) {
  if (type->file()->name() == "k8s/scalars.proto" || type == k8s::ObjectMeta::descriptor()) return;
  for (int i = 0; i < type->field_count(); ++i) {
    const auto* field = type->field(i);
    const std::string name = type->name() + "." + field->name();
    if (!seen.insert(name).second) continue;
    const FieldEntry* entry = find_field(name);
    if (entry == nullptr) {
      unclassed.push_back(name);
    } else if (entry->what == FieldClass::kActs && field->message_type() != nullptr && !field->is_map()) {
      walk(field->message_type(), seen, unclassed);
    }
  }
}

TEST(FieldTable, EveryFieldOfPodAndServiceIsClassedAndNoOther) {
  std::set<std::string> seen;
  std::vector<std::string> unclassed;
  walk(k8s::Pod::descriptor(), seen, unclassed);
  walk(k8s::Service::descriptor(), seen, unclassed);
  EXPECT_THAT(unclassed, IsEmpty());
  for (const FieldEntry& entry : field_table()) {
    EXPECT_TRUE(seen.contains(std::string(entry.field))) << entry.field << " is no field that can be reached";
  }
}

k8s::Pod pod_of(const std::string& spec, const std::string& container) {
  auto pod = read_text<k8s::Pod>(fmt::format(
      "metadata: {{name: p}}\nspec:\n  containers:\n  - name: c\n    image: i:1\n{}\n{}\n", container, spec));
  default_pod(pod);
  return pod;
}

TEST(PodFields, WhatTheApiDefaultsIsNeitherRefusedNorReported) {
  const FieldReport report = check_pod_fields(pod_of("", ""));
  EXPECT_THAT(texts(report.refused), IsEmpty());
  EXPECT_THAT(report.reported, IsEmpty());
}

TEST(PodFields, EachClassIsHonoured) {
  struct Case {
    const char* spec;       // indented by two
    const char* container;  // indented by four
    std::vector<std::string> refused;
    std::vector<std::string> reported;
  };
  const std::string kNo = "not supported by this release";
  for (
      const Case& each : std::initializer_list<Case>{
          {"  hostPID: false", "", {}, {}},
          {"  hostPID: true\n  hostIPC: true\n  shareProcessNamespace: true", "", {}, {}},
          {"  runtimeClassName: kata", "", {"spec.runtimeClassName: \"kata\" is " + kNo}, {}},
          {"  hostUsers: true", "", {}, {}},
          {"  hostUsers: false", "", {"spec.hostUsers: \"false\" is " + kNo}, {}},
          {"  securityContext: {}", "    securityContext: {}", {}, {}},
          {"  securityContext: {runAsUser: 0, runAsGroup: 5, supplementalGroups: [6], seccompProfile: {type: "
           "RuntimeDefault}}",
           "",
           {},
           {}},
          {"  securityContext: {seccompProfile: {type: Localhost, localhostProfile: a}}",
           "",
           {"spec.securityContext.seccompProfile.type: \"Localhost\" is " + kNo,
            "spec.securityContext.seccompProfile.localhostProfile: \"a\" is " + kNo},
           {}},
          {"  securityContext: {runAsNonRoot: false}", "", {}, {}},
          {"  securityContext: {fsGroup: 5, sysctls: [{name: a, value: b}]}",
           "",
           {"spec.securityContext.sysctls: " + kNo},
           {}},
          {"",
           "    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, "
           "readOnlyRootFilesystem: "
           "true, runAsNonRoot: true, procMount: Default}",
           {},
           {}},
          {"",
           "    securityContext: {procMount: Unmasked}",
           {"spec.containers[0].securityContext.procMount: \"Unmasked\" is " + kNo},
           {}},
          {"", "    securityContext: {capabilities: {}, privileged: false}", {}, {}},
          {"", "    lifecycle: {}", {}, {}},
          {"", "    lifecycle: {preStop: {exec: {command: [a]}}, postStart: {sleep: {seconds: 1}}}", {}, {}},
          {"",
           "    lifecycle: {stopSignal: SIGUSR1, preStop: {tcpSocket: {port: 1}}}",
           {"spec.containers[0].lifecycle.stopSignal: \"SIGUSR1\" is " + kNo,
            "spec.containers[0].lifecycle.preStop.tcpSocket: " + kNo},
           {}},
          {"", "    ports: [{containerPort: 1, hostPort: 2, hostIP: 192.0.2.1}]", {}, {}},
          {"  setHostnameAsFQDN: true\n  hostname: a\n  subdomain: b", "", {}, {}},
          {"  hostnameOverride: a.example", "", {}, {}},
          {"  hostNetwork: true", "    ports: [{containerPort: 1}]", {}, {}},
          {"  initContainers: [{name: i, image: i:1, restartPolicy: Always}]", "", {}, {}},
          {"", "    restartPolicy: Always", {"spec.containers[0].restartPolicy: " + kNo}, {}},
          {"", "    startupProbe: {exec: {command: [a]}}", {}, {}},
          {"", "    livenessProbe: {grpc: {port: 1, service: a}}", {}, {}},
          {"", "    livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: a, value: b}]}}", {}, {}},
          {"",
           "    resources: {limits: {cpu: 1, memory: 1Gi, nvidia.com/gpu: 1}}",
           {"spec.containers[0].resources.limits[nvidia.com/gpu]: " + kNo,
            "spec.containers[0].resources.requests[nvidia.com/gpu]: " + kNo},
           {}},
          {"",
           "    env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a']\"}}}, {name: B, valueFrom: "
           "{fieldRef: {fieldPath: spec.schedulerName}}}]",
           {"spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: \"spec.schedulerName\" is " + kNo},
           {}},
          {"",
           "    env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}, {name: B, valueFrom: "
           "{resourceFieldRef: {resource: limits.hugepages-2Mi}}}]",
           {"spec.containers[0].env[1].valueFrom.resourceFieldRef.resource: \"limits.hugepages-2Mi\" is " + kNo},
           {}},
          {"  volumes: [{name: a}, {name: b, hostPath: {path: /a}}, {name: c, configMap: {name: c}}, {name: d, secret: "
           "{secretName: d}}]",
           "",
           {},
           {}},
          {"  volumes: [{name: a, persistentVolumeClaim: {claimName: a}}]",
           "",
           {"spec.volumes[0].persistentVolumeClaim: " + kNo},
           {}},
          {"  volumes: [{name: a, projected: {sources: [{serviceAccountToken: {path: a}}, {clusterTrustBundle: {path: "
           "b}}]}}]",
           "",
           {"spec.volumes[0].projected.sources[1].clusterTrustBundle: " + kNo},
           {}},
          {"  volumes: [{name: a, emptyDir: {medium: HugePages}}]",
           "",
           {"spec.volumes[0].emptyDir.medium: \"HugePages\" is " + kNo},
           {}},
          {"  volumes: [{name: a, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]",
           "",
           {},
           {"spec.volumes[0].emptyDir.sizeLimit"}},
          {"  volumes: [{name: a}]",
           "    volumeMounts: [{name: a, mountPath: /a, recursiveReadOnly: Enabled}, {name: a, mountPath: /b, "
           "mountPropagation: None, recursiveReadOnly: Disabled}]",
           {"spec.containers[0].volumeMounts[0].recursiveReadOnly: \"Enabled\" is " + kNo},
           {}},
          {"  os: {name: linux}", "", {}, {}},
          {"  os: {name: windows}", "", {"spec.os.name: \"windows\" is " + kNo}, {}},
          {"  affinity: {nodeAffinity: {}}\n  tolerations: [{operator: Exists}]\n  nodeSelector: {a: b}\n  priority: 0",
           "",
           {},
           {"spec.nodeSelector", "spec.affinity", "spec.tolerations"}},
          {"  serviceAccountName: default\n  automountServiceAccountToken: false", "", {}, {}},
          {"  serviceAccountName: robot\n  automountServiceAccountToken: true", "", {}, {}},
      }) {
    const FieldReport report = check_pod_fields(pod_of(each.spec, each.container));
    std::vector<std::string> refused = texts(report.refused);
    EXPECT_THAT(refused, testing::UnorderedElementsAreArray(each.refused)) << each.spec << each.container;
    EXPECT_THAT(report.reported, testing::ElementsAreArray(each.reported)) << each.spec << each.container;
  }
}

// A Deployment's pod as a 1.37 API server hands it out.
TEST(PodFields, ARealPodIsNotRefused) {
  const auto pod = read_text<k8s::Pod>(R"(
apiVersion: v1
kind: Pod
metadata:
  name: web-6f7c5b4d8-x2x9z
  generateName: web-6f7c5b4d8-
  namespace: default
  uid: 0a3c9f2e-2f38-4d0a-b6f7-5d6f6a1c3b55
  resourceVersion: "512"
  generation: 1
  creationTimestamp: "2026-11-24T19:00:00Z"
  labels: {app: web, pod-template-hash: 6f7c5b4d8}
  ownerReferences:
  - {apiVersion: apps/v1, kind: ReplicaSet, name: web-6f7c5b4d8, uid: 4f0c, controller: true, blockOwnerDeletion: true}
  managedFields:
  - {manager: kube-controller-manager, operation: Update, apiVersion: v1, time: "2026-11-24T19:00:00Z", fieldsType: FieldsV1}
spec:
  containers:
  - name: web
    image: registry.example/web:1
    imagePullPolicy: IfNotPresent
    ports: [{name: http, containerPort: 8080, protocol: TCP}]
    resources:
      limits: {cpu: 500m, memory: 64Mi, ephemeral-storage: 1Gi}
      requests: {cpu: 50m, memory: 32Mi, ephemeral-storage: 1Gi}
    terminationMessagePath: /dev/termination-log
    terminationMessagePolicy: File
    lifecycle: {preStop: {exec: {command: [sleep, "5"]}}}
    startupProbe: {httpGet: {path: /, port: 8080, scheme: HTTP}, timeoutSeconds: 1, periodSeconds: 1, successThreshold: 1, failureThreshold: 30}
    readinessProbe: {httpGet: {path: /, port: http, scheme: HTTP}, timeoutSeconds: 1, periodSeconds: 5, successThreshold: 1, failureThreshold: 3}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, runAsNonRoot: true, readOnlyRootFilesystem: true}
    volumeMounts:
    - {name: kube-api-access-8k2lp, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
  restartPolicy: Always
  terminationGracePeriodSeconds: 30
  dnsPolicy: ClusterFirst
  serviceAccountName: default
  serviceAccount: default
  nodeName: n1
  securityContext: {runAsUser: 1000, fsGroup: 2000, seccompProfile: {type: RuntimeDefault}}
  imagePullSecrets: [{name: pull}]
  schedulerName: default-scheduler
  tolerations:
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 300}
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 300}
  hostAliases: [{ip: 192.0.2.9, hostnames: [a]}]
  priority: 0
  readinessGates: [{conditionType: lb/attached}]
  enableServiceLinks: true
  preemptionPolicy: PreemptLowerPriority
  volumes:
  - name: kube-api-access-8k2lp
    projected:
      defaultMode: 420
      sources:
      - serviceAccountToken: {expirationSeconds: 3607, path: token}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]}
status: {phase: Pending, qosClass: Burstable}
)");
  EXPECT_THAT(texts(check_pod_fields(pod).refused), IsEmpty());
}

TEST(PodFields, UnknownWireFieldsRefuseThePodWhereverTheyAre) {
  for (const bool deep : {false, true}) {
    k8s::Pod pod = pod_of("  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {}}}", "");
    google::protobuf::Message* where = pod.mutable_spec();
    if (deep) where = pod.mutable_spec()->mutable_affinity()->mutable_nodeaffinity();
    where->GetReflection()->MutableUnknownFields(where)->AddVarint(777, 1);
    k8s::Pod wire;
    ASSERT_TRUE(wire.ParseFromString(pod.SerializeAsString()));
    EXPECT_THAT(
        texts(check_pod_fields(wire).refused),
        ElementsAre(std::string(deep ? "spec.affinity.nodeAffinity" : "spec") + ": field number 777 is not known"));
  }
}

TEST(ServiceFields, WhatSteersTrafficFromOutsideIsReported) {
  auto service = read_text<k8s::Service>(
      "spec: {type: NodePort, externalTrafficPolicy: Local, externalIPs: [1.2.3.4], trafficDistribution: PreferClose, "
      "loadBalancerIP: 1.2.3.5,\n"
      "  ports: [{port: 80, nodePort: 30000, appProtocol: http}]}\n");
  default_service(service);
  FieldReport report = check_service_fields(service);
  EXPECT_THAT(texts(report.refused), IsEmpty());
  EXPECT_THAT(report.reported,
              testing::UnorderedElementsAre("spec.externalTrafficPolicy", "spec.externalIPs", "spec.loadBalancerIP",
                                            "spec.ports[0].nodePort", "spec.ports[0].appProtocol"));
  service.mutable_spec()->set_internaltrafficpolicy("Local");
  service.mutable_spec()->set_trafficdistribution("PreferSameNode");
  EXPECT_THAT(texts(check_service_fields(service).refused), IsEmpty());
}

}  // namespace
}  // namespace fairlead::kube
