// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/project.h"

#include <gtest/gtest.h>
#include <k8s/config.pb.h>
#include <k8s/endpointslice.pb.h>
#include <k8s/node.pb.h>
#include <k8s/pod.pb.h>
#include <k8s/service.pb.h>

#include "agent/kube/decode.h"
#include "test/unit/kube/read.h"

namespace fairlead::kube {
namespace {

IpAddress ip(const char* text) {
  return *IpAddress::parse(text);
}

TEST(Project, AServiceWithEverything) {
  const auto row = project_service(read_text<k8s::Service>(R"(
metadata: {name: web, namespace: shop, uid: u1}
spec:
  type: NodePort
  clusterIP: 10.0.0.1
  clusterIPs: [10.0.0.1, "fd00::1"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  publishNotReadyAddresses: true
  ports:
  - {name: http, port: 80, targetPort: web, nodePort: 30080}
  - {name: dns, port: 53, protocol: UDP, targetPort: 5353}
  - {name: same, port: 81}
)"));
  ASSERT_TRUE(row) << row.error().what;
  model::Service expected;
  expected.id = {"shop", "web", "u1"};
  expected.type = model::ServiceType::kNodePort;
  expected.cluster_ips = {ip("10.0.0.1"), ip("fd00::1")};
  expected.families = {Family::kV4, Family::kV6};
  expected.family_policy = model::FamilyPolicy::kPreferDualStack;
  expected.ports = {{"http", 80, Protocol::kTcp, std::string("web"), 30080},
                    {"dns", 53, Protocol::kUdp, std::uint16_t{5353}, 0},
                    {"same", 81, Protocol::kTcp, std::uint16_t{81}, 0}};
  expected.selector = {{"app", "web"}};
  expected.affinity_timeout_s = 60;
  expected.publish_not_ready = true;
  expected.unread = {
      "spec.type NodePort, spec.ports[0].nodePort: not served by this release, which serves ClusterIPs alone"};
  EXPECT_EQ(*row, expected);
}

TEST(Project, ALabelGivesAServiceToAnotherProxy) {
  for (const auto& [labels, others] :
       std::map<std::string, bool>{{"{}", false},
                                   {"{service.kubernetes.io/service-proxy-name: mesh}", true},
                                   {"{service.kubernetes.io/service-proxy-name: ''}", true},
                                   {"{service.kubernetes.io/headless: ''}", false}}) {  // which counts on slices only
    const auto row = project_service(read_text<k8s::Service>("metadata: {name: web, labels: " + labels + "}\n"));
    ASSERT_TRUE(row) << row.error().what;
    EXPECT_EQ(row->other_proxy, others) << labels;
  }
}

TEST(Project, WaysInFromOutsideAreNamed) {
  for (const auto& [text, fields] : std::map<std::string, std::string>{
           {"spec: {ports: [{port: 80}], externalTrafficPolicy: Local, loadBalancerIP: 192.0.2.1}", ""},
           {"spec: {ports: [{port: 80}], externalIPs: [192.0.2.1, 192.0.2.2]}", "spec.externalIPs"},
           {"spec: {type: NodePort, ports: [{port: 80}]}", "spec.type NodePort"},
           {"spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}, {port: 81}, {port: 82, nodePort: 30082}]}",
            "spec.type NodePort, spec.ports[0].nodePort, spec.ports[2].nodePort"},
           {"spec: {type: LoadBalancer, ports: [{port: 80}]}\nstatus: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}",
            "spec.type LoadBalancer, status.loadBalancer.ingress"},
           {"spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}], externalIPs: [192.0.2.1]}\n"
            "metadata: {labels: {service.kubernetes.io/service-proxy-name: mesh}}",
            ""}}) {
    const auto row = project_service(read_text<k8s::Service>(text + "\n"));
    ASSERT_TRUE(row) << row.error().what;
    std::vector<std::string> want;
    if (!fields.empty()) want = {fields + ": not served by this release, which serves ClusterIPs alone"};
    EXPECT_EQ(row->unread, want) << text;
  }
}

TEST(Project, ANode) {
  const auto row = project_node(read_text<k8s::Node>(R"(
metadata: {name: n1, uid: u1, labels: {a: b}}
spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, "fd00:1::/64"]}
status:
  addresses:
  - {type: Hostname, address: n1}
  - {type: InternalIP, address: 192.0.2.1}
  - {type: ExternalIP, address: 198.51.100.1}
  - {type: InternalIP, address: "2001:db8::1"}
)"));
  ASSERT_TRUE(row) << row.error().what;
  EXPECT_EQ(*row, (model::Node{"n1",
                               "u1",
                               {{"a", "b"}},
                               {*Cidr::parse("10.1.0.0/24"), *Cidr::parse("fd00:1::/64")},
                               {ip("192.0.2.1"), ip("2001:db8::1")}}));
}

TEST(Project, HeadlessExternalNameAndBare) {
  const auto headless = project_service(read_text<k8s::Service>("spec: {clusterIP: None, clusterIPs: [None]}\n"));
  EXPECT_TRUE(headless->headless);
  EXPECT_TRUE(headless->cluster_ips.empty());
  EXPECT_EQ(project_service(read_text<k8s::Service>("spec: {type: ExternalName}\n"))->type,
            model::ServiceType::kExternalName);
  const auto bare =
      project_service(read_text<k8s::Service>("spec: {clusterIP: \"fd00::5\", sessionAffinity: ClientIP}\n"));
  EXPECT_EQ(bare->cluster_ips, std::vector{ip("fd00::5")});
  EXPECT_EQ(bare->families, std::vector{Family::kV6});
  EXPECT_EQ(bare->affinity_timeout_s, 10800U);
}

TEST(Project, BadServicesNameTheField) {
  const std::pair<const char*, const char*> kCases[] = {
      {"spec: {type: Odd}", "spec.type"},
      {"spec: {clusterIP: nope}", "spec.clusterIPs"},
      {"spec: {ipFamilies: [IPv5]}", "spec.ipFamilies"},
      {"spec: {ports: [{port: 1}, {port: 70000}]}", "spec.ports[1].port"},
      {"spec: {ports: [{port: 1, targetPort: -1}]}", "spec.ports[0].targetPort"},
      {"spec: {ports: [{port: 1, protocol: ICMP}]}", "ICMP"},
  };
  for (const auto& [text, field] : kCases) {
    const auto row = project_service(read_text<k8s::Service>(text));
    ASSERT_FALSE(row) << text;
    EXPECT_NE(row.error().what.find(field), std::string::npos) << row.error().what;
  }
}

TEST(Project, AnEndpointSlice) {
  const auto row = project_endpoint_slice(read_text<k8s::EndpointSlice>(R"(
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: all}, {port: 53, protocol: UDP}]
endpoints:
- {addresses: [10.1.0.1, 10.1.0.2], nodeName: n1, zone: z, targetRef: {kind: Pod, uid: p1}}
- {addresses: [10.1.0.3], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.1.0.4], conditions: {ready: false}}
- {addresses: []}
)"));
  ASSERT_TRUE(row) << row.error().what;
  EXPECT_EQ(row->service_key(), "shop/web");
  EXPECT_EQ(row->ports, (std::vector<model::EndpointPort>{{"http", 8080, Protocol::kTcp}, {"", 53, Protocol::kUdp}}));
  const std::vector<model::Endpoint> expected = {
      {ip("10.1.0.1"), true, true, false, "n1", "z", "p1"},
      {ip("10.1.0.3"), false, true, true, "", "", ""},
      {ip("10.1.0.4"), false, false, false, "", "", ""},
  };
  EXPECT_EQ(row->endpoints, expected);
}

TEST(Project, ASliceForNoProxyIsOfNoService) {
  const auto row = project_endpoint_slice(read_text<k8s::EndpointSlice>(R"(
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web, service.kubernetes.io/headless: ""}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
)"));
  ASSERT_TRUE(row) << row.error().what;
  EXPECT_EQ(row->service, "");
  EXPECT_TRUE(row->endpoints.empty());
}

TEST(Project, SlicesOfOtherFamilies) {
  EXPECT_TRUE(
      project_endpoint_slice(read_text<k8s::EndpointSlice>("{addressType: FQDN, endpoints: [{addresses: [a.b]}]}\n"))
          ->endpoints.empty());
  EXPECT_EQ(project_endpoint_slice(
                read_text<k8s::EndpointSlice>("{addressType: IPv6, endpoints: [{addresses: [\"fd00::1\"]}]}\n"))
                ->family,
            Family::kV6);
  const std::pair<const char*, const char*> kCases[] = {
      {"{addressType: IPX}", "addressType"},
      {"{addressType: IPv4, endpoints: [{addresses: [\"fd00::1\"]}]}", "endpoints[0].addresses[0]"},
      {"{addressType: IPv4, endpoints: [{addresses: [x]}]}", "endpoints[0].addresses[0]"},
      {"{addressType: IPv4, ports: [{port: 99999}]}", "ports[0].port"},
  };
  for (const auto& [text, field] : kCases) {
    const auto row = project_endpoint_slice(read_text<k8s::EndpointSlice>(text));
    ASSERT_FALSE(row) << text;
    EXPECT_NE(row.error().what.find(field), std::string::npos) << row.error().what;
  }
}

TEST(Project, APodBeingDeletedSaysHowLongItHas) {
  struct Case {
    const char* text;
    std::optional<std::int64_t> grace;
  };
  for (const Case& each : std::initializer_list<Case>{
           {"metadata: {uid: u}\n", {}},
           {"metadata: {deletionGracePeriodSeconds: 5}\n", {}},
           {"metadata: {deletionTimestamp: 2026-01-01T00:00:00Z, deletionGracePeriodSeconds: 5}\n", 5},
           {"metadata: {deletionTimestamp: 2026-01-01T00:00:00Z, deletionGracePeriodSeconds: 0}\n", 0},
           {"{metadata: {deletionTimestamp: 2026-01-01T00:00:00Z}, spec: {terminationGracePeriodSeconds: 7}}\n", 7},
           {"metadata: {deletionTimestamp: 2026-01-01T00:00:00Z}\n", 30},
       }) {
    const auto row = project_pod(std::make_shared<k8s::Pod>(read_text<k8s::Pod>(each.text)), "api");
    EXPECT_EQ(row.deletion_grace_s, each.grace) << each.text;
    EXPECT_EQ(row.source, "api");
    EXPECT_NE(row.object, nullptr);
  }
}

TEST(Project, PoliciesAndAnnotationsOfAService) {
  using Distribution = model::TrafficDistribution;
  for (const auto& [word, want] : std::map<std::string, Distribution>{{"PreferClose", Distribution::kSameZone},
                                                                      {"PreferSameZone", Distribution::kSameZone},
                                                                      {"PreferSameNode", Distribution::kSameNode},
                                                                      {"PreferNothing", Distribution::kAll}}) {
    const auto row =
        project_service(read_text<k8s::Service>("{metadata: {name: w}, spec: {trafficDistribution: " + word + "}}\n"));
    EXPECT_EQ(row->distribution, want) << word;
    EXPECT_FALSE(row->internal_local);
  }
  const auto row = project_service(read_text<k8s::Service>(R"(
metadata:
  name: w
  annotations: {fairlead.io/load-balancing: least-connections, fairlead.io/zone-weights: "a=3,b=0"}
spec: {internalTrafficPolicy: Local}
)"));
  EXPECT_TRUE(row->internal_local);
  EXPECT_EQ(row->balancing, Balancing::kLeastConnections);
  EXPECT_EQ(row->zone_weights, (std::map<std::string, std::uint32_t>{{"a", 3}, {"b", 0}}));
  EXPECT_TRUE(row->unread.empty());

  // From an API server, a bad word costs no more than its effect.
  for (const auto& [annotation, why] : std::map<std::string, std::string>{
           {"fairlead.io/load-balancing: fastest", "\"fastest\" is not one of random, round-robin"},
           {"fairlead.io/zone-weights: a", "\"a\": want ZONE=WEIGHT"},
           {"fairlead.io/zone-weights: a=1,=2", "\"=2\": want ZONE=WEIGHT"},
           {"fairlead.io/zone-weights: a=101", "\"a=101\": a weight is 0 to 100"},
           {"fairlead.io/zone-weights: a=-1", "\"a=-1\": a weight is 0 to 100"},
           {"fairlead.io/zone-weights: a=1,a=2", "\"a=2\": this zone has a weight already"}}) {
    const auto bad =
        project_service(read_text<k8s::Service>("metadata:\n  name: w\n  annotations:\n    " + annotation + "\n"));
    ASSERT_TRUE(bad);
    EXPECT_FALSE(bad->balancing);
    EXPECT_TRUE(bad->zone_weights.empty());
    ASSERT_EQ(bad->unread.size(), 1U) << annotation;
    EXPECT_NE(bad->unread[0].find(why), std::string::npos) << bad->unread[0];
  }
}

TEST(Project, HintsOfEndpoints) {
  const auto row = project_endpoint_slice(read_text<k8s::EndpointSlice>(R"(
metadata: {name: e, namespace: shop}
addressType: IPv4
endpoints:
- addresses: [10.0.0.1]
  hints: {forZones: [{name: b}, {name: a}], forNodes: [{name: node-1}]}
- addresses: [10.0.0.2]
)"));
  using Names = std::vector<std::string>;
  EXPECT_EQ(row->endpoints[0].zone_hints, (Names{"a", "b"}));
  EXPECT_EQ(row->endpoints[0].node_hints, Names{"node-1"});
  EXPECT_EQ(row->endpoints[1].zone_hints, Names{});
}

TEST(Decode, NothingOfOneSliceIsLeftForTheNext) {
  const EndpointSliceDecoder decode;
  const auto full = read_text<k8s::EndpointSlice>(R"(
metadata: {name: e, namespace: shop, uid: u, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints:
- {addresses: [10.0.0.1], zone: a, nodeName: node-1, conditions: {ready: false}, hints: {forZones: [{name: a}]}}
- {addresses: [10.0.0.2]}
)");
  ASSERT_EQ(decode(full.SerializeAsString())->second.endpoints.size(), 2U);
  EXPECT_FALSE(decode("\xff\xff"));
  const auto next = read_text<k8s::EndpointSlice>(
      "{metadata: {name: f, namespace: shop}, addressType: IPv4, endpoints: [{addresses: [10.0.0.3]}]}\n");
  const auto row = decode(next.SerializeAsString());
  ASSERT_TRUE(row);
  EXPECT_EQ(row->first, "shop/f");
  EXPECT_EQ(row->second, *project_endpoint_slice(next));
}

TEST(Decode, KeysAndErrors) {
  const auto node = read_text<k8s::Node>("metadata: {name: node-1, labels: {topology.kubernetes.io/zone: a}}\n");
  EXPECT_EQ(decode_node(node.SerializeAsString())->first, "node-1");
  EXPECT_EQ(model::zone_of(decode_node(node.SerializeAsString())->second.labels), "a");
  const auto service = read_text<k8s::Service>("metadata: {name: web, namespace: shop}\n").SerializeAsString();
  EXPECT_EQ(decode_service(service)->first, "shop/web");
  const auto pod =
      read_text<k8s::Pod>("metadata: {name: p, namespace: shop, uid: u, managedFields: [{manager: kubectl}]}\n")
          .SerializeAsString();
  EXPECT_EQ(decode_pod(pod)->first, "u");
  EXPECT_EQ(decode_pod(pod)->second.object->metadata().managedfields_size(), 0);
  EXPECT_EQ(decode_pod(pod)->second.source, "api");
  const auto slice =
      read_text<k8s::EndpointSlice>("{metadata: {name: e, namespace: shop}, addressType: IPv4}\n").SerializeAsString();
  EXPECT_EQ(EndpointSliceDecoder()(slice)->first, "shop/e");
  const auto config =
      read_text<k8s::ConfigMap>("{metadata: {name: c, namespace: ns}, data: {a: b}, binaryData: {c: AA==}}\n");
  EXPECT_EQ(decode_config_map(config.SerializeAsString())->second.data,
            (std::map<std::string, std::string>{{"a", "b"}, {"c", std::string(1, '\0')}}));
  const auto secret = read_text<k8s::Secret>("{metadata: {name: s, namespace: ns}, data: {a: Yg==}}\n");
  EXPECT_EQ(decode_secret(secret.SerializeAsString())->second.data.at("a"), "b");

  EXPECT_FALSE(decode_service("\xff\xff"));
  const auto bad = decode_service(
      read_text<k8s::Service>("{metadata: {name: web, namespace: shop}, spec: {type: Odd}}\n").SerializeAsString());
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().what.find("Service shop/web: spec.type"), 0U) << bad.error().what;
}

}  // namespace
}  // namespace fairlead::kube
