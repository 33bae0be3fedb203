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
          {"  hostPID: true", "", {"spec.hostPID: \"true\" is " + kNo}, {}},
          {"  hostIPC: true", "", {"spec.hostIPC: \"true\" is " + kNo}, {}},
          {"  hostUsers: true", "", {}, {}},
          {"  hostUsers: false", "", {"spec.hostUsers: \"false\" is " + kNo}, {}},
          {"  securityContext: {}", "    securityContext: {}", {}, {}},
          {"  securityContext: {runAsUser: 0}", "", {"spec.securityContext.runAsUser: \"0\" is " + kNo}, {}},
          {"  securityContext: {runAsNonRoot: false}", "", {}, {}},
          {"  securityContext: {fsGroup: 5, sysctls: [{name: a, value: b}]}",
           "",
           {"spec.securityContext.fsGroup: \"5\" is " + kNo, "spec.securityContext.sysctls: " + kNo},
           {}},
          {"",
           "    securityContext: {allowPrivilegeEscalation: false}",
           {"spec.containers[0].securityContext.allowPrivilegeEscalation: \"false\" is " + kNo},
           {}},
          {"",
           "    securityContext: {capabilities: {drop: [ALL]}}",
           {"spec.containers[0].securityContext.capabilities: " + kNo},
           {}},
          {"", "    securityContext: {capabilities: {}, privileged: false}", {}, {}},
          {"", "    lifecycle: {}", {}, {}},
          {"", "    lifecycle: {preStop: {exec: {command: [a]}}}", {"spec.containers[0].lifecycle: " + kNo}, {}},
          {"",
           "    ports: [{containerPort: 1, hostPort: 1}]",
           {"spec.containers[0].ports[0].hostPort: \"1\" is " + kNo},
           {}},
          {"  hostNetwork: true", "    ports: [{containerPort: 1}]", {}, {}},
          {"  initContainers: [{name: i, image: i:1, restartPolicy: Always}]",
           "",
           {"spec.initContainers[0].restartPolicy: \"Always\" is " + kNo},
           {}},
          {"", "    startupProbe: {exec: {command: [a]}}", {"spec.containers[0].startupProbe: " + kNo}, {}},
          {"", "    livenessProbe: {grpc: {port: 1}}", {"spec.containers[0].livenessProbe.grpc: " + kNo}, {}},
          {"", "    livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: a, value: b}]}}", {}, {}},
          {"",
           "    resources: {limits: {cpu: 1, memory: 1Gi, nvidia.com/gpu: 1}}",
           {"spec.containers[0].resources.limits[nvidia.com/gpu]: " + kNo,
            "spec.containers[0].resources.requests[nvidia.com/gpu]: " + kNo},
           {}},
          {"",
           "    env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a']\"}}}, {name: B, valueFrom: "
           "{fieldRef: {fieldPath: spec.serviceAccountName}}}]",
           {"spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: \"spec.serviceAccountName\" is " + kNo},
           {}},
          {"",
           "    env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]",
           {"spec.containers[0].env[0].valueFrom.resourceFieldRef: " + kNo},
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
          {"  volumes: [{name: a, projected: {sources: []}}]", "", {"spec.volumes[0].projected: " + kNo}, {}},
          {"  volumes: [{name: a, emptyDir: {medium: HugePages}}]",
           "",
           {"spec.volumes[0].emptyDir.medium: \"HugePages\" is " + kNo},
           {}},
          {"  volumes: [{name: a, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]",
           "",
           {},
           {"spec.volumes[0].emptyDir.sizeLimit"}},
          {"  volumes: [{name: a}]",
           "    volumeMounts: [{name: a, mountPath: /a, mountPropagation: Bidirectional}, {name: a, mountPath: /b, "
           "mountPropagation: None, recursiveReadOnly: Disabled}]",
           {"spec.containers[0].volumeMounts[0].mountPropagation: \"Bidirectional\" is " + kNo},
           {}},
          {"  os: {name: linux}", "", {}, {}},
          {"  os: {name: windows}", "", {"spec.os.name: \"windows\" is " + kNo}, {}},
          {"  runtimeClassName: kata", "", {"spec.runtimeClassName: \"kata\" is " + kNo}, {}},
          {"  affinity: {nodeAffinity: {}}\n  tolerations: [{operator: Exists}]\n  nodeSelector: {a: b}\n  priority: 0",
           "",
           {},
           {"spec.nodeSelector", "spec.affinity", "spec.tolerations"}},
          {"  serviceAccountName: default\n  automountServiceAccountToken: false", "", {}, {}},
          {"  serviceAccountName: robot\n  automountServiceAccountToken: true",
           "",
           {},
           {"spec.serviceAccountName", "spec.automountServiceAccountToken"}},
      }) {
    const FieldReport report = check_pod_fields(pod_of(each.spec, each.container));
    std::vector<std::string> refused = texts(report.refused);
    EXPECT_THAT(refused, testing::UnorderedElementsAreArray(each.refused)) << each.spec << each.container;
    EXPECT_THAT(report.reported, testing::ElementsAreArray(each.reported)) << each.spec << each.container;
  }
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

TEST(ServiceFields, WhatSteersTrafficFromOutsideIsReportedAndLocalOnlyIsRefused) {
  auto service = read_text<k8s::Service>(
      "spec: {type: NodePort, externalTrafficPolicy: Local, externalIPs: [1.2.3.4], trafficDistribution: PreferClose,\n"
      "  ports: [{port: 80, nodePort: 30000, appProtocol: http}]}\n");
  default_service(service);
  FieldReport report = check_service_fields(service);
  EXPECT_THAT(texts(report.refused), IsEmpty());
  EXPECT_THAT(report.reported, testing::UnorderedElementsAre("spec.externalTrafficPolicy", "spec.externalIPs",
                                                             "spec.trafficDistribution", "spec.ports[0].nodePort",
                                                             "spec.ports[0].appProtocol"));
  service.mutable_spec()->set_internaltrafficpolicy("Local");
  EXPECT_THAT(texts(check_service_fields(service).refused),
              ElementsAre("spec.internalTrafficPolicy: \"Local\" is not supported by this release"));
}

}  // namespace
}  // namespace fairlead::kube
