// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/validate/validate.h"

#include <gmock/gmock.h>
#include <k8s/config.pb.h>
#include <k8s/endpointslice.pb.h>
#include <k8s/namespace.pb.h>
#include <k8s/node.pb.h>
#include <k8s/pod.pb.h>
#include <k8s/service.pb.h>

#include "agent/base/result.h"
#include "agent/kube/defaults/defaults.h"
#include "agent/kube/validate/names.h"
#include "test/unit/kube/read.h"

namespace fairlead::kube {
namespace {

using testing::ElementsAreArray;
using testing::IsEmpty;

TEST(Names, ByTheApisRules) {
  using Rule = std::string (*)(std::string_view);
  struct Case {
    Rule rule;
    std::vector<std::string> good;
    std::vector<std::string> bad;
  };
  const std::string l63(63, 'a'), l64(64, 'a');
  for (const Case& each : std::initializer_list<Case>{
           {not_dns_label, {"a", "0", "a-b", l63}, {"", "A", "-a", "a-", "a.b", "a_b", l64}},
           {not_dns_subdomain,
            {"a", "a.b-c.d", "0.1", std::string(253, 'a')},
            {"", ".", "a..b", "a.", "A.b", std::string(254, 'a')}},
           {not_search_path,
            {"a", "a.b", "_sip._tcp.a", "a_b"},
            {"", ".", "a.", "a_", "__a", "A", std::string(254, 'a')}},
           {not_port_name, {"a", "http-2", "0a"}, {"", "80", "-a", "a--b", "UPPER", "sixteen-letters-"}},
           {not_label_key, {"a", "A.b_c-d", "x.y/Z", l63}, {"", "/a", "a/", "a/b/c", "-a", "a-", "X/a", l64}},
           {not_label_value, {"", "a", "A.b_c-d", l63}, {"-", "a b", ".a", l64}},
           {not_env_name, {"A", "a.b-c_d", "1x", "a b"}, {"", "a=b", "a\n"}},
           {not_config_key, {"a", ".x", "a..b", "A-b_c.d"}, {"", ".", "..", "..a", "a/b", "a b"}},
       }) {
    for (const std::string& text : each.good) EXPECT_EQ(each.rule(text), "") << text;
    for (const std::string& text : each.bad) EXPECT_NE(each.rule(text), "") << text;
  }
}

// The reasons in front of ": must", ": may", …: field and value, which is what a reader looks for.
std::vector<std::string> brief(const FieldErrors& errors) {
  std::vector<std::string> all;
  for (std::string text : texts(errors)) {
    for (const char* tail : {": must", ": may", ": expected", ": supported values", ": one family", ": stands",
                             ": first", ": name part", ": prefix part", ": not allowed", ": '"}) {
      text = text.substr(0, text.find(tail));
    }
    all.push_back(text);
  }
  return all;
}

std::vector<std::string> pod_errors(const std::string& spec, const std::string& container) {
  auto pod = read_text<k8s::Pod>(fmt::format(
      "metadata: {{name: p}}\nspec:\n  containers:\n  - name: c\n    image: i:1\n{}\n{}\n", container, spec));
  default_manifest_meta(*pod.mutable_metadata());
  default_pod(pod);
  return brief(validate_pod(pod));
}

TEST(ValidatePod, SearchPathsHaveLimits) {
  const auto errors = [](int paths, std::size_t length) {
    std::string spec = "  dnsConfig:\n    searches:\n";
    for (int i = 0; i < paths; ++i) spec += "    - " + std::string(length, 'a') + "\n";
    std::vector<std::string> fields;
    for (const std::string& text : pod_errors(spec, "")) fields.push_back(text.substr(0, text.find(':')));
    return fields;
  };
  EXPECT_THAT(errors(32, 63), IsEmpty());  // 2047 characters
  EXPECT_THAT(errors(33, 1), testing::ElementsAre("spec.dnsConfig.searches"));
  EXPECT_THAT(errors(9, 227), testing::ElementsAre("spec.dnsConfig.searches"));
}

TEST(ValidatePod, SpecAndContainers) {
  struct Case {
    const char* spec;
    const char* container;
    std::vector<std::string> errors;
  };
  const std::string c = "spec.containers[0]";
  for (const Case& each : std::initializer_list<Case>{
           {"", "", {}},
           {"  restartPolicy: Sometimes", "", {"spec.restartPolicy: Unsupported value: \"Sometimes\""}},
           {"  dnsPolicy: Best", "", {"spec.dnsPolicy: Unsupported value: \"Best\""}},
           {"  activeDeadlineSeconds: 0", "", {"spec.activeDeadlineSeconds: Invalid value: 0"}},
           {"  nodeName: UP", "", {"spec.nodeName: Invalid value: \"UP\""}},
           {"  hostname: a.b\n  subdomain: A",
            "",
            {"spec.hostname: Invalid value: \"a.b\"", "spec.subdomain: Invalid value: \"A\""}},
           {"  dnsPolicy: None", "", {"spec.dnsConfig: Required value"}},
           {"  dnsPolicy: None\n  dnsConfig: {searches: [a]}", "", {"spec.dnsConfig.nameservers: Required value"}},
           {"  dnsPolicy: None\n  dnsConfig: {nameservers: [\"::1\", 1.2.3.4], searches: [., a., _b.c], "
            "options: [{name: a}, {name: b, value: \"2\"}]}",
            "",
            {}},
           {"  dnsConfig: {nameservers: [a, 1.1.1.1, 1.1.1.2, 1.1.1.3], searches: [A], options: [{value: x}]}",
            "",
            {"spec.dnsConfig.nameservers: Invalid value: \"a 1.1.1.1 1.1.1.2 1.1.1.3\"",
             "spec.dnsConfig.nameservers[0]: Invalid value: \"a\"", "spec.dnsConfig.searches[0]: Invalid value: \"A\"",
             "spec.dnsConfig.options[0]: Required value"}},
           {"  hostNetwork: true\n  setHostnameAsFQDN: true\n  hostnameOverride: A",
            "",
            {"spec.hostnameOverride: Forbidden", "spec.hostnameOverride: Forbidden",
             "spec.hostnameOverride: Invalid value: \"A\""}},
           {"  hostnameOverride: a.b", "", {}},
           {"  hostAliases: [{ip: x, hostnames: [a.b, A]}, {ip: \"::1\"}]",
            "",
            {"spec.hostAliases[0].ip: Invalid value: \"x\"", "spec.hostAliases[0].hostnames[1]: Invalid value: \"A\""}},
           {"  volumes: [{name: a}]",
            "    volumeMounts: [{name: a, mountPath: /a, subPath: b, subPathExpr: c}, {name: a, mountPath: /b, "
            "subPathExpr: ../$(A)}, {name: a, mountPath: /c, subPathExpr: $(A)/b}]",
            {c + ".volumeMounts[0].subPathExpr: Invalid value: \"c\": subPathExpr and subPath are mutually exclusive",
             c + ".volumeMounts[1].subPathExpr: Invalid value: \"../$(A)\""}},
           {"  initContainers: [{name: c, image: i}]", "", {c + ".name: Duplicate value: \"c\""}},
           {"  initContainers: [{name: I}]",
            "",
            {"spec.initContainers[0].name: Invalid value: \"I\"", "spec.initContainers[0].image: Required value"}},
           {"  initContainers: [{name: i, image: i, livenessProbe: {exec: {command: [a]}}}]",
            "",
            {"spec.initContainers[0].livenessProbe: Forbidden"}},
           {"", "    imagePullPolicy: Often", {c + ".imagePullPolicy: Unsupported value: \"Often\""}},
           {"", "    terminationMessagePolicy: X", {c + ".terminationMessagePolicy: Unsupported value: \"X\""}},
           {"",
            "    ports: [{containerPort: 0}, {containerPort: 65536, protocol: ICMP}, {name: a, containerPort: 1}, "
            "{name: a, containerPort: 2}, {name: TOO, containerPort: 3}]",
            {c + ".ports[0].containerPort: Required value", c + ".ports[1].containerPort: Invalid value: 65536",
             c + ".ports[1].protocol: Unsupported value: \"ICMP\"", c + ".ports[3].name: Duplicate value: \"a\"",
             c + ".ports[4].name: Invalid value: \"TOO\""}},
           {"  hostNetwork: true",
            "    ports: [{containerPort: 80, hostPort: 81}]",
            {c + ".ports[0].hostPort: Invalid value: 81"}},
           {"",
            "    env: [{name: \"a=b\"}, {value: x}, {name: A, value: x, valueFrom: {fieldRef: {fieldPath: "
            "metadata.name}}}, {name: B, valueFrom: {}}, {name: C, valueFrom: {configMapKeyRef: {}}}, {name: D, "
            "valueFrom: {secretKeyRef: {name: s, key: a/b}, fieldRef: {}}}]",
            {c + ".env[0].name: Invalid value: \"a=b\"", c + ".env[1].name: Required value",
             c + ".env[2].valueFrom: Invalid value: \"\"", c + ".env[3].valueFrom: Invalid value: \"\"",
             c + ".env[4].valueFrom.configMapKeyRef.name: Required value",
             c + ".env[4].valueFrom.configMapKeyRef.key: Required value", c + ".env[5].valueFrom: Invalid value: \"\"",
             c + ".env[5].valueFrom.secretKeyRef.key: Invalid value: \"a/b\"",
             c + ".env[5].valueFrom.fieldRef.fieldPath: Required value"}},
           {"",
            "    envFrom: [{}, {configMapRef: {}, secretRef: {name: s}}, {secretRef: {}}, {prefix: \"=\", "
            "configMapRef: {name: c}}]",
            {c + ".envFrom[0]: Invalid value: \"\"", c + ".envFrom[1]: Invalid value: \"\"",
             c + ".envFrom[1].configMapRef.name: Required value", c + ".envFrom[2].secretRef.name: Required value",
             c + ".envFrom[3].prefix: Invalid value: \"=\""}},
           {"",
            "    resources: {limits: {cpu: 100m, memory: -1}, requests: {cpu: 0.2}}",
            {c + ".resources.limits[memory]: Invalid value: \"-1\"",
             c + ".resources.requests[memory]: Invalid value: \"-1\"",
             c + ".resources.requests: Invalid value: \"200m\""}},
           {"", "    resources: {limits: {cpu: 1}, requests: {cpu: 1000m}}", {}},
           {"  volumes: [{name: a}, {name: a}, {name: B}, {emptyDir: {}}, {name: d, emptyDir: {}, hostPath: {path: "
            "/x}}]",
            "",
            {"spec.volumes[1].name: Duplicate value: \"a\"", "spec.volumes[2].name: Invalid value: \"B\"",
             "spec.volumes[3].name: Required value", "spec.volumes[4]: Forbidden"}},
           {"  volumes: [{name: a, hostPath: {path: /a/../b}}, {name: b, hostPath: {type: Odd}}, {name: c, configMap: "
            "{}}, {name: d, secret: {defaultMode: 512, items: [{key: k, path: /a}, {path: ../b, mode: 01000}]}}, "
            "{name: e, emptyDir: {medium: Tape}}]",
            "",
            {"spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\"",
             "spec.volumes[1].hostPath.path: Required value",
             "spec.volumes[1].hostPath.type: Unsupported value: \"Odd\"",
             "spec.volumes[2].configMap.name: Required value", "spec.volumes[3].secret.secretName: Required value",
             "spec.volumes[3].secret.defaultMode: Invalid value: 512",
             "spec.volumes[3].secret.items[0].path: Invalid value: \"/a\"",
             "spec.volumes[3].secret.items[1].key: Required value",
             "spec.volumes[3].secret.items[1].path: Invalid value: \"../b\"",
             "spec.volumes[3].secret.items[1].mode: Invalid value: 512",
             "spec.volumes[4].emptyDir.medium: Unsupported value: \"Tape\""}},
           {"  volumes: [{name: a}]",
            "    volumeMounts: [{name: a, mountPath: /a}, {name: b, mountPath: /b}, {name: a}, {mountPath: /a}, {name: "
            "a, mountPath: /c, subPath: ../x}]",
            {c + ".volumeMounts[1].name: Not found: \"b\"", c + ".volumeMounts[2].mountPath: Required value",
             c + ".volumeMounts[3].name: Required value", c + ".volumeMounts[3].mountPath: Invalid value: \"/a\"",
             c + ".volumeMounts[4].subPath: Invalid value: \"../x\""}},
           {"", "    livenessProbe: {}", {c + ".livenessProbe: Required value"}},
           {"",
            "    livenessProbe: {successThreshold: 2, exec: {}, tcpSocket: {port: 0}}",
            {c + ".livenessProbe: Forbidden", c + ".livenessProbe.exec.command: Required value",
             c + ".livenessProbe.tcpSocket.port: Invalid value: 0",
             c + ".livenessProbe.successThreshold: Invalid value: 2"}},
           {"",
            "    readinessProbe: {successThreshold: 2, periodSeconds: -1, initialDelaySeconds: -1, httpGet: {port: "
            "Web, scheme: FTP}}",
            {c + ".readinessProbe.httpGet.port: Invalid value: \"Web\"",
             c + ".readinessProbe.httpGet.scheme: Unsupported value: \"FTP\"",
             c + ".readinessProbe.initialDelaySeconds: Invalid value: -1",
             c + ".readinessProbe.periodSeconds: Invalid value: -1"}},
       }) {
    EXPECT_THAT(pod_errors(each.spec, each.container), ElementsAreArray(each.errors)) << each.spec << each.container;
  }
}

TEST(ValidatePod, SaysItInTheApisWords) {
  auto pod = read_text<k8s::Pod>("metadata: {name: p}\nspec: {containers: [{name: c}]}\n");
  default_manifest_meta(*pod.mutable_metadata());
  default_pod(pod);
  EXPECT_THAT(texts(validate_pod(pod)), testing::ElementsAre("spec.containers[0].image: Required value"));
  pod.mutable_spec()->clear_containers();
  pod.mutable_spec()->set_restartpolicy("Sometimes");
  EXPECT_THAT(
      texts(validate_pod(pod)),
      testing::ElementsAre("spec.containers: Required value",
                           "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", "
                           "\"OnFailure\", \"Never\""));
}

TEST(ValidateMeta, NamesLabelsAnnotations) {
  const std::pair<const char*, std::vector<std::string>> kCases[] = {
      {"metadata: {name: a.b}", {}},
      {"metadata: {}", {"metadata.name: Required value"}},
      {"metadata: {generateName: a-}", {"metadata.name: Required value"}},
      {"metadata: {name: A}", {"metadata.name: Invalid value: \"A\""}},
      {"metadata: {name: a, namespace: a.b}", {"metadata.namespace: Invalid value: \"a.b\""}},
      {"metadata: {name: a, labels: {\"a b\": c, d: \"e f\"}}",
       {"metadata.labels: Invalid value: \"a b\"", "metadata.labels[d]: Invalid value: \"e f\""}},
      {"metadata: {name: a, annotations: {X.Y/z: anything goes, \"q q\": \"\"}}",
       {"metadata.annotations: Invalid value: \"q q\""}},
  };
  for (const auto& [text, errors] : kCases) {
    auto config = read_text<k8s::ConfigMap>(text);
    default_manifest_meta(*config.mutable_metadata());
    EXPECT_THAT(brief(validate_config_map(config)), testing::UnorderedElementsAreArray(errors)) << text;
  }
  k8s::ConfigMap config;
  config.mutable_metadata()->set_name("a");
  config.mutable_metadata()->set_namespace_("b");
  (*config.mutable_metadata()->mutable_annotations())["a"] = std::string(300'000, 'x');
  EXPECT_EQ(validate_config_map(config).size(), 1U);
  auto name_space = read_text<k8s::Namespace>("metadata: {name: a.b}");
  EXPECT_THAT(brief(validate_namespace(name_space)), ElementsAreArray({"metadata.name: Invalid value: \"a.b\""}));
}

TEST(ValidateNode, RangesAndAddresses) {
  const std::pair<const char*, std::vector<std::string>> kCases[] = {
      {"spec: {podCIDR: 10.0.0.0/24}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.1}]}", {}},
      {"spec: {podCIDRs: [10.0.0.0/24, \"fd00::/64\"]}", {}},
      {"spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.0.0.0/24]}", {"spec.podCIDR: Invalid value: \"10.1.0.0/24\""}},
      {"spec: {podCIDRs: [10.0.0.0/24, 10.0.1.0/24]}", {"spec.podCIDRs[1]: Invalid value: \"10.0.1.0/24\""}},
      {"spec: {podCIDRs: [10.0.0.1/24]}", {"spec.podCIDRs[0]: Invalid value: \"10.0.0.1/24\""}},
      {"status: {addresses: [{type: InternalIP, address: a}, {type: InternalIP, address: 127.0.0.1}, {type: Odd}]}",
       {"status.addresses[0].address: Invalid value: \"a\"",
        "status.addresses[1].address: Invalid value: \"127.0.0.1\"",
        "status.addresses[2].type: Unsupported value: \"Odd\""}},
  };
  for (const auto& [text, errors] : kCases) {
    auto node = read_text<k8s::Node>(std::string("metadata: {name: n1}\n") + text + "\n");
    default_node(node);
    EXPECT_THAT(brief(validate_node(node)), ElementsAreArray(errors)) << text;
  }
}

TEST(ValidateService, Specs) {
  const std::pair<const char*, std::vector<std::string>> kCases[] = {
      {"{ports: [{port: 80}]}", {}},
      {"{}", {"spec.ports: Required value"}},
      {"{clusterIP: None}", {}},
      {"{type: Odd, ports: [{port: 80}]}", {"spec.type: Unsupported value: \"Odd\""}},
      {"{ports: [{port: 0}]}", {"spec.ports[0].port: Invalid value: 0", "spec.ports[0].targetPort: Invalid value: 0"}},
      {"{ports: [{port: 1}, {port: 2}]}", {"spec.ports[0].name: Required value", "spec.ports[1].name: Required value"}},
      {"{ports: [{name: a, port: 1}, {name: a, port: 2}]}", {"spec.ports[1].name: Duplicate value: \"a\""}},
      {"{ports: [{name: a, port: 1}, {name: b, port: 1}]}", {"spec.ports[1]: Duplicate value: \"1/TCP\""}},
      {"{ports: [{name: a, port: 1}, {name: b, port: 1, protocol: UDP}]}", {}},
      {"{ports: [{port: 1, protocol: ICMP}]}", {"spec.ports[0].protocol: Unsupported value: \"ICMP\""}},
      {"{ports: [{port: 1, targetPort: WEB}]}", {"spec.ports[0].targetPort: Invalid value: \"WEB\""}},
      {"{ports: [{port: 1, nodePort: 30000}]}", {"spec.ports[0].nodePort: Forbidden"}},
      {"{type: NodePort, ports: [{port: 1, nodePort: 30000}]}", {}},
      {"{clusterIP: x, ports: [{port: 1}]}", {"spec.clusterIPs[0]: Invalid value: \"x\""}},
      {"{clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, \"fd00::1\"], ports: [{port: 1}]}", {}},
      {"{clusterIPs: [10.0.0.1, 10.0.0.2], ports: [{port: 1}]}", {"spec.clusterIPs[1]: Invalid value: \"10.0.0.2\""}},
      {"{clusterIP: 10.0.0.2, clusterIPs: [10.0.0.1], ports: [{port: 1}]}",
       {"spec.clusterIPs: Invalid value: \"10.0.0.1\""}},
      {"{clusterIPs: [None, None]}",
       {"spec.clusterIPs[0]: Invalid value: \"None\"", "spec.clusterIPs[1]: Invalid value: \"None\""}},
      {"{type: NodePort, clusterIP: None}", {"spec.clusterIP: Invalid value: \"None\""}},
      {"{ipFamilies: [IPv6], clusterIP: 10.0.0.1, ports: [{port: 1}]}",
       {"spec.clusterIPs[0]: Invalid value: \"10.0.0.1\""}},
      {"{ipFamilies: [IPv4, IPv4], ports: [{port: 1}]}", {"spec.ipFamilies[1]: Duplicate value: \"IPv4\""}},
      {"{ipFamilyPolicy: SingleStack, ipFamilies: [IPv4, IPv6], ports: [{port: 1}]}",
       {"spec.ipFamilyPolicy: Invalid value: \"SingleStack\""}},
      {"{ipFamilyPolicy: Odd, ports: [{port: 1}]}", {"spec.ipFamilyPolicy: Unsupported value: \"Odd\""}},
      {"{sessionAffinity: Odd, ports: [{port: 1}]}", {"spec.sessionAffinity: Unsupported value: \"Odd\""}},
      {"{sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}, ports: [{port: 1}]}",
       {"spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401"}},
      {"{type: ExternalName, externalName: a.b}", {}},
      {"{type: ExternalName, externalName: a.b.}", {}},
      {"{type: ExternalName}", {"spec.externalName: Required value"}},
      {"{type: ExternalName, externalName: A_B, clusterIP: 10.0.0.1}",
       {"spec.clusterIP: Forbidden", "spec.externalName: Invalid value: \"A_B\""}},
      {"{selector: {\"a b\": c}, ports: [{port: 1}]}", {"spec.selector: Invalid value: \"a b\""}},
      {"{externalIPs: [127.0.0.1, 1.2.3.4], ports: [{port: 1}]}",
       {"spec.externalIPs[0]: Invalid value: \"127.0.0.1\""}},
      {"{type: NodePort, externalTrafficPolicy: Odd, internalTrafficPolicy: Odd, ports: [{port: 1}]}",
       {"spec.externalTrafficPolicy: Unsupported value: \"Odd\"",
        "spec.internalTrafficPolicy: Unsupported value: \"Odd\""}},
      {"{trafficDistribution: PreferFar, ports: [{port: 1}]}",
       {"spec.trafficDistribution: Unsupported value: \"PreferFar\""}},
  };
  for (const auto& [text, errors] : kCases) {
    auto service = read_text<k8s::Service>(fmt::format("metadata: {{name: web, namespace: ns}}\nspec: {}\n", text));
    default_service(service);
    EXPECT_THAT(brief(validate_service(service)), ElementsAreArray(errors)) << text;
  }
  auto annotated = read_text<k8s::Service>(
      "metadata: {name: web, namespace: ns, annotations: {fairlead.io/load-balancing: best}}\n"
      "spec: {ports: [{port: 1}]}\n");
  default_service(annotated);
  const auto errors = validate_service(annotated);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0].field, "metadata.annotations[fairlead.io/load-balancing]");
  auto service = read_text<k8s::Service>("metadata: {name: -web, namespace: ns}\nspec: {ports: [{port: 1}]}\n");
  default_service(service);
  EXPECT_THAT(brief(validate_service(service)), ElementsAreArray({"metadata.name: Invalid value: \"-web\""}));
}

TEST(ValidateEndpointSlice, Contents) {
  const std::pair<const char*, std::vector<std::string>> kCases[] = {
      {"addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 1}]", {}},
      {"endpoints: []", {"addressType: Required value"}},
      {"addressType: X", {"addressType: Unsupported value: \"X\""}},
      {"addressType: IPv4, endpoints: [{}]", {"endpoints[0].addresses: Required value"}},
      {"addressType: IPv4, endpoints: [{addresses: [\"fd00::1\", 127.0.0.1]}]",
       {"endpoints[0].addresses[0]: Invalid value: \"fd00::1\"",
        "endpoints[0].addresses[1]: Invalid value: \"127.0.0.1\""}},
      {"addressType: FQDN, endpoints: [{addresses: [a.b, A_B]}]",
       {"endpoints[0].addresses[1]: Invalid value: \"A_B\""}},
      {"addressType: IPv4, endpoints: [{addresses: [10.0.0.1], nodeName: UP}]",
       {"endpoints[0].nodeName: Invalid value: \"UP\""}},
      {"addressType: IPv4, ports: [{port: 1}, {port: 70000, protocol: X}]",
       {"ports[1].name: Duplicate value: \"\"", "ports[1].protocol: Unsupported value: \"X\"",
        "ports[1].port: Invalid value: 70000"}},
  };
  for (const auto& [text, errors] : kCases) {
    auto slice = read_text<k8s::EndpointSlice>(fmt::format("{{metadata: {{name: e, namespace: ns}}, {}}}\n", text));
    default_endpoint_slice(slice);
    EXPECT_THAT(brief(validate_endpoint_slice(slice)), ElementsAreArray(errors)) << text;
  }
}

TEST(ValidateConfig, KeysAndSizes) {
  auto config = read_text<k8s::ConfigMap>(
      "metadata: {name: c, namespace: ns}\ndata: {a: b, \"x/y\": z}\nbinaryData: {a: AA==}\n");
  EXPECT_THAT(brief(validate_config_map(config)),
              ElementsAreArray({"data[x/y]: Invalid value: \"x/y\"",
                                "data[a]: Invalid value: \"a\": duplicate of key present in binaryData"}));
  k8s::Secret secret;
  secret.mutable_metadata()->set_name("s");
  secret.mutable_metadata()->set_namespace_("ns");
  (*secret.mutable_data())["a"] = std::string(1U << 20, 'x');
  EXPECT_THAT(brief(validate_secret(secret)), IsEmpty());
  (*secret.mutable_data())["b"] = "x";
  EXPECT_THAT(brief(validate_secret(secret)), ElementsAreArray({"data: Invalid value: 1048577"}));
}

}  // namespace
}  // namespace fairlead::kube
