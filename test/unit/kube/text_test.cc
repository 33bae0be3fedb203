// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/codec/text.h"

#include <google/protobuf/unknown_field_set.h>
#include <gtest/gtest.h>
#include <k8s/config.pb.h>
#include <k8s/event.pb.h>
#include <k8s/pod.pb.h>
#include <k8s/service.pb.h>

#include "agent/base/result.h"

namespace fairlead::kube {
namespace {

template <class T>
T read(std::string_view text) {
  T message;
  const auto root = yaml::parse_one(text);
  EXPECT_TRUE(root) << root.error().reason;
  for (const FieldError& error : read_message(*root, message)) ADD_FAILURE() << locate("text", error);
  return message;
}

template <class T>
std::vector<std::string> refusals(std::string_view text) {
  T message;
  const auto root = yaml::parse_one(text);
  EXPECT_TRUE(root) << root.error().reason;
  std::vector<std::string> errors;
  for (const FieldError& error : read_message(*root, message)) errors.push_back(locate("f.yaml", error));
  return errors;
}

constexpr std::string_view kPod = R"(apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web, "1": "true"}
  creationTimestamp: 2026-01-31T12:00:00Z
  deletionTimestamp: null
spec:
  hostNetwork: on
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: echo:1
    args: ["-l", '8080']
    ports: [{containerPort: 8080, name: http}]
    env:
    - name: KEY
      valueFrom: {configMapKeyRef: {name: conf, key: a, optional: true}}
    resources:
      limits: {cpu: 0.5, memory: 1024Ki}
    readinessProbe:
      periodSeconds: 2
      httpGet: {path: /ready, port: http}
    livenessProbe: {tcpSocket: {port: 8080}}
  volumes:
  - name: conf
    configMap: {name: conf, defaultMode: 0644, items: [{key: a, path: a}]}
  - name: scratch
    emptyDir: {}
)";

TEST(Text, FillsAPodInlineFieldsIncluded) {
  const auto pod = read<k8s::Pod>(kPod);
  EXPECT_TRUE(pod.spec().hostnetwork());
  EXPECT_EQ(pod.metadata().labels().at("1"), "true");
  EXPECT_TRUE(pod.metadata().has_creationtimestamp());
  EXPECT_FALSE(pod.metadata().has_deletiontimestamp());
  const k8s::Container& main = pod.spec().containers(0);
  EXPECT_EQ(main.args(1), "8080");
  EXPECT_EQ(main.env(0).valuefrom().configmapkeyref().localobjectreference().name(), "conf");
  EXPECT_EQ(main.resources().limits().at("cpu").string(), "500m");
  EXPECT_EQ(main.resources().limits().at("memory").string(), "1Mi");
  EXPECT_EQ(main.readinessprobe().handler().httpget().port().strval(), "http");
  EXPECT_EQ(main.readinessprobe().handler().httpget().port().type(), 1);
  EXPECT_EQ(main.livenessprobe().handler().tcpsocket().port().intval(), 8080);
  EXPECT_EQ(pod.spec().volumes(0).volumesource().configmap().localobjectreference().name(), "conf");
  EXPECT_EQ(pod.spec().volumes(0).volumesource().configmap().defaultmode(), 0644);
  EXPECT_TRUE(pod.spec().volumes(1).volumesource().has_emptydir());
}

TEST(Text, WritesWhatItReads) {
  const auto pod = read<k8s::Pod>(kPod);
  const auto json = to_json(pod, "v1", "Pod");
  EXPECT_EQ(json["apiVersion"], "v1");
  EXPECT_EQ(json["metadata"]["creationTimestamp"], "2026-01-31T12:00:00Z");
  const auto& main = json["spec"]["containers"][0];
  EXPECT_EQ(main["readinessProbe"]["httpGet"]["port"], "http");
  EXPECT_EQ(main["livenessProbe"]["tcpSocket"]["port"], 8080);
  EXPECT_FALSE(main["livenessProbe"].contains("handler"));
  EXPECT_EQ(main["env"][0]["valueFrom"]["configMapKeyRef"]["name"], "conf");
  EXPECT_EQ(json["spec"]["volumes"][1].dump(), R"({"name":"scratch","emptyDir":{}})");
  const auto again = read<k8s::Pod>(json.dump());
  EXPECT_EQ(to_json(again).dump(), to_json(pod).dump());
}

TEST(Text, BytesAreBase64AndMapsComeSorted) {
  const auto secret = read<k8s::Secret>("data: {b: aGVsbG8=, a: AP8=}\nstringData: {c: text}\n");
  EXPECT_EQ(secret.data().at("b"), "hello");
  EXPECT_EQ(secret.data().at("a"), std::string("\0\xff", 2));
  EXPECT_EQ(to_json(secret).dump(), R"({"data":{"a":"AP8=","b":"aGVsbG8="},"stringData":{"c":"text"}})");
}

TEST(Text, MicroTimeAndManagedFields) {
  const auto event = read<k8s::Event>("eventTime: 2026-01-31T12:00:00.000007Z\n");
  EXPECT_EQ(event.eventtime().nanos(), 7000);
  EXPECT_EQ(to_json(event).dump(), R"({"eventTime":"2026-01-31T12:00:00.000007Z"})");
  const auto pod = read<k8s::Pod>("metadata: {managedFields: [{fieldsV1: {\"f:a\": {}, n: [1, x, true]}}]}\n");
  EXPECT_EQ(to_json(pod).dump(), R"({"metadata":{"managedFields":[{"fieldsV1":{"f:a":{},"n":[1,"x",true]}}]}})");
}

TEST(Text, NumbersOfAnySizeInManagedFields) {
  const auto pod = read<k8s::Pod>(
      "metadata: {managedFields: [{fieldsV1: {a: 1e999, b: -1e999, c: 18446744073709551615, d: -9223372036854775808, "
      "e: -18446744073709551615, f: 1.5}}]}\n");
  EXPECT_EQ(to_json(pod)["metadata"]["managedFields"][0]["fieldsV1"].dump(),
            R"({"a":"1e999","b":"-1e999","c":18446744073709551615,"d":-9223372036854775808,)"
            R"("e":"-18446744073709551615","f":1.5})");
}

// The API's two kinds of time know seconds and microseconds, and the first moment of 1970 as none.
TEST(Text, TimesKeepWhatTheirTextShows) {
  const std::pair<const char*, const char*> kPods[] = {
      {"1970-01-01T00:00:00Z", "{}"},
      {"1970-01-01T00:00:00.5Z", "{}"},
      {"1970-01-01T02:00:00+02:00", "{}"},
      {"2026-01-31T12:00:00.5Z", R"({"creationTimestamp":"2026-01-31T12:00:00Z"})"},
  };
  for (const auto& [text, json] : kPods) {
    const auto pod = read<k8s::Pod>(fmt::format("metadata: {{creationTimestamp: {}}}\n", text));
    EXPECT_EQ(to_json(pod)["metadata"].dump(), json) << text;
    EXPECT_EQ(pod.metadata().creationtimestamp().nanos(), 0);
  }
  EXPECT_FALSE(read<k8s::Event>("eventTime: 1970-01-01T00:00:00.000000999Z\n").has_eventtime());
  EXPECT_EQ(read<k8s::Event>("eventTime: 1970-01-01T00:00:00.000001999Z\n").eventtime().nanos(), 1000);
}

TEST(Text, UnknownWireFieldsSurviveARoundTrip) {
  auto pod = read<k8s::Pod>(kPod);
  auto* spec = pod.mutable_spec();
  spec->GetReflection()->MutableUnknownFields(spec)->AddLengthDelimited(900, "from a later release");
  k8s::Pod again;
  ASSERT_TRUE(again.ParseFromString(pod.SerializeAsString()));
  const auto& unknown = again.spec().GetReflection()->GetUnknownFields(again.spec());
  ASSERT_EQ(unknown.field_count(), 1);
  EXPECT_EQ(unknown.field(0).number(), 900);
  EXPECT_EQ(unknown.field(0).length_delimited(), "from a later release");
  EXPECT_EQ(again.SerializeAsString().size(), pod.SerializeAsString().size());
}

TEST(Text, ErrorsNameLineAndField) {
  struct Case {
    const char* text;
    const char* error;
  };
  for (const Case& each : std::initializer_list<Case>{
           {"spec:\n  containers:\n  - imagee: x\n", "f.yaml:3: spec.containers[0].imagee: unknown field"},
           {"volumeSource: {}\n", "f.yaml:1: volumeSource: unknown field"},
           {"spec:\n  volumes:\n  - volumeSource: {}\n", "f.yaml:3: spec.volumes[0].volumeSource: unknown field"},
           {"spec: 3\n", "f.yaml:1: spec: expected a map, got a number"},
           {"spec: {hostPID: maybe}\n", "f.yaml:1: spec.hostPID: expected a bool, got a string"},
           {"spec: {hostPID: \"true\"}\n", "f.yaml:1: spec.hostPID: expected a bool, got a string"},
           {"spec: {nodeName: 12}\n", "f.yaml:1: spec.nodeName: expected a string (put it in quotes), got a number"},
           {"spec: {nodeName: yes}\n", "f.yaml:1: spec.nodeName: expected a string (put it in quotes), got a bool"},
           {"spec: {nodeName: [a]}\n", "f.yaml:1: spec.nodeName: expected a string, got a list"},
           {"spec: {priority: 3000000000}\n", "f.yaml:1: spec.priority: 3000000000 does not fit into 32 bits"},
           {"spec: {priority: 1.5}\n", "f.yaml:1: spec.priority: expected an integer, got a number"},
           {"spec: {priority: \"1\"}\n", "f.yaml:1: spec.priority: expected an integer, got a string"},
           {"spec: {containers: {name: a}}\n", "f.yaml:1: spec.containers: expected a list, got a map"},
           {"spec: {containers: [null]}\n", "f.yaml:1: spec.containers[0]: expected a value, got null"},
           {"metadata: {labels: {a: 1}}\n",
            "f.yaml:1: metadata.labels[a]: expected a string (put it in quotes), got a number"},
           {"metadata: {labels: [a]}\n", "f.yaml:1: metadata.labels: expected a map, got a list"},
           {"metadata: {creationTimestamp: today}\n",
            "f.yaml:1: metadata.creationTimestamp: \"today\" is no time: expected RFC 3339, like 2026-01-31T12:00:00Z"},
           {"spec: {overhead: {cpu: 1q}}\n",
            "f.yaml:1: spec.overhead[cpu]: \"1q\" is no quantity: unknown suffix \"q\""},
           {"spec: {overhead: {cpu: {}}}\n", "f.yaml:1: spec.overhead[cpu]: expected a quantity, got a map"},
       }) {
    const auto errors = refusals<k8s::Pod>(each.text);
    ASSERT_EQ(errors.size(), 1U) << each.text;
    EXPECT_EQ(errors[0], each.error);
  }
  EXPECT_EQ(refusals<k8s::Secret>("data: {a: '%%'}\n")[0].find("f.yaml:1: data[a]: not base64"), 0U);
  EXPECT_EQ(refusals<k8s::Service>("spec: {ports: [{targetPort: 1.5}]}\n")[0],
            "f.yaml:1: spec.ports[0].targetPort: expected an integer or a string, got a number");
  EXPECT_EQ(refusals<k8s::Pod>("[a]\n")[0], "f.yaml:1: expected a map, got a list");
}

TEST(Text, AllErrorsOfAnObjectAreNamedUpToALimit) {
  std::string text = "spec:\n";
  for (int i = 0; i < 30; ++i) text += fmt::format("  bad{}: 1\n", i);
  const auto errors = refusals<k8s::Pod>(text);
  ASSERT_EQ(errors.size(), 20U);
  EXPECT_EQ(errors[19], "f.yaml:21: spec.bad19: unknown field");
}

}  // namespace
}  // namespace fairlead::kube
