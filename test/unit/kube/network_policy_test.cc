// SPDX-License-Identifier: Apache-2.0
// NetworkPolicies, Namespaces and peers out of the API's messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <k8s/namespace.pb.h>
#include <k8s/networkpolicy.pb.h>
#include <k8s/pod.pb.h>

#include "agent/kube/decode.h"
#include "agent/kube/defaults/defaults.h"
#include "agent/kube/project.h"
#include "agent/kube/validate/validate.h"
#include "test/unit/kube/read.h"

namespace fairlead::kube {
namespace {

using testing::HasSubstr;

Result<model::NetworkPolicy> project(const char* spec) {
  auto policy = read_text<k8s::NetworkPolicy>(std::string("metadata: {name: p, namespace: shop}\nspec: ") + spec);
  return project_network_policy(policy);
}

TEST(NetworkPolicy, EverythingIsProjected) {
  const auto row = project(R"(
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector: {matchLabels: {app: client}}
    - namespaceSelector: {}
      podSelector: {matchLabels: {app: client}}
    - ipBlock: {cidr: 10.1.2.3/8, except: [10.2.0.0/16, 10.1.0.0/16]}
    ports: [{port: http}, {protocol: UDP, port: 53}, {protocol: SCTP}, {port: 8000, endPort: 9000}]
  - {}
  egress:
  - to: [{namespaceSelector: {matchLabels: {team: x}}}]
)");
  ASSERT_TRUE(row) << row.error().what;
  const auto client = model::Selector::from_labels({{"app", "client"}});
  model::NetworkPolicy expected{{"shop", "p", ""}, model::Selector::from_labels({{"app", "web"}})};
  expected.isolates_egress = true;
  expected.ingress = {
      {.ports = {{Protocol::kTcp, std::string("http")},
                 {Protocol::kUdp, std::uint16_t{53}},
                 {Protocol::kSctp, {}},
                 {Protocol::kTcp, std::uint16_t{8000}, 9000}},
       .peers = {{.pods = client},
                 {.namespaces = model::Selector(), .pods = client},
                 {.block = model::IpBlock{*Cidr::parse("10.0.0.0/8"),
                                          {*Cidr::parse("10.1.0.0/16"), *Cidr::parse("10.2.0.0/16")}}}}},
      {.any_port = true, .any_peer = true}};
  expected.egress = {
      {.any_port = true, .peers = {{.namespaces = model::Selector::from_labels({{"team", "x"}}), .pods = {}}}}};
  EXPECT_EQ(*row, expected);
}

TEST(NetworkPolicy, TypesHaveTheApisDefaults) {
  const auto types = [](const char* spec) {
    const auto row = project(spec);
    return std::pair(row->isolates_ingress, row->isolates_egress);
  };
  EXPECT_EQ(types("{}"), std::pair(true, false));
  EXPECT_EQ(types("{egress: [{}]}"), std::pair(true, true));
  EXPECT_EQ(types("{policyTypes: [Egress]}"), std::pair(false, true));
  EXPECT_EQ(types("{policyTypes: [Ingress], egress: [{}]}"), std::pair(true, false));
  for (const auto& [spec, count] : {std::pair("{}", 1), std::pair("{egress: [{}]}", 2)}) {
    auto policy = read_text<k8s::NetworkPolicy>(std::string("spec: ") + spec);
    default_network_policy(policy);
    EXPECT_EQ(policy.spec().policytypes_size(), count) << spec;
  }
}

// What we cannot read allows nothing: it must not become "all".
TEST(NetworkPolicy, WhatCannotBeReadAllowsNothingAndIsTold) {
  const auto row = project(R"(
  ingress:
  - ports: [{protocol: QUIC, port: 80}, {port: 0}, {port: 80, endPort: 79}]
    from: [{}, {ipBlock: {cidr: nowhere}}, {podSelector: {matchExpressions: [{key: a, operator: Near}]}}]
)");
  ASSERT_TRUE(row);
  EXPECT_EQ(row->ingress, std::vector<model::PolicyRule>(1));
  ASSERT_EQ(row->unread.size(), 6U);
  EXPECT_THAT(row->unread[0], HasSubstr("spec.ingress[0].ports[0]: protocol \"QUIC\""));
  EXPECT_THAT(row->unread[5], HasSubstr("spec.ingress[0].from[2]: selector key \"a\": operator \"Near\""));
  const auto whom = project("{podSelector: {matchExpressions: [{key: a, operator: Near}]}}");
  ASSERT_FALSE(whom);
  EXPECT_THAT(whom.error().what, HasSubstr("spec.podSelector: selector key \"a\""));
}

TEST(NetworkPolicy, BadManifestsAreRefusedByField) {
  const std::pair<const char*, std::vector<std::string>> kCases[] = {
      {"{podSelector: {}}", {}},
      {"{ingress: [{ports: [{port: 80, endPort: 80}, {port: a-name}, {protocol: UDP}]}]}", {}},
      {"{podSelector: {matchLabels: {\"a b\": c}}}", {"spec.podSelector.matchLabels"}},
      {"{podSelector: {matchExpressions: [{key: a, operator: Gt}]}}",
       {"spec.podSelector.matchExpressions[0].operator"}},
      {"{podSelector: {matchExpressions: [{key: a, operator: In}]}}", {"spec.podSelector.matchExpressions[0].values"}},
      {"{policyTypes: [Both]}", {"spec.policyTypes[0]"}},
      {"{ingress: [{ports: [{port: 70000}, {port: \"a b\"}, {protocol: ICMP}]}]}",
       {"spec.ingress[0].ports[0].port", "spec.ingress[0].ports[1].port", "spec.ingress[0].ports[2].protocol"}},
      {"{egress: [{ports: [{endPort: 2}, {port: a, endPort: 2}, {port: 3, endPort: 2}]}]}",
       {"spec.egress[0].ports[0].endPort", "spec.egress[0].ports[1].endPort", "spec.egress[0].ports[2].endPort"}},
      {"{egress: [{to: [{}, {podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}",
       {"spec.egress[0].to[0]", "spec.egress[0].to[1]"}},
      {"{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/33}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8, x]}}]}]}",
       {"spec.egress[0].to[0].ipBlock.cidr", "spec.egress[0].to[1].ipBlock.except[0]",
        "spec.egress[0].to[1].ipBlock.except[1]"}},
  };
  for (const auto& [spec, fields] : kCases) {
    auto policy = read_text<k8s::NetworkPolicy>(std::string("metadata: {name: p, namespace: shop}\nspec: ") + spec);
    default_network_policy(policy);
    std::vector<std::string> found;
    for (const FieldError& error : validate_network_policy(policy)) found.push_back(error.field);
    EXPECT_EQ(found, fields) << spec;
  }
}

TEST(PeerPod, IsWhatOthersMeet) {
  const auto pod = read_text<k8s::Pod>(R"(
metadata: {name: web, namespace: shop, uid: u1, labels: {app: web}}
spec:
  nodeName: n2
  initContainers:
  - {name: setup, ports: [{name: setup, containerPort: 1}]}
  - {name: side, restartPolicy: Always, ports: [{name: side, containerPort: 2}]}
  containers:
  - {name: a, ports: [{name: http, containerPort: 8080}, {containerPort: 9}, {name: dns, protocol: UDP, containerPort: 53}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]}
)");
  EXPECT_EQ(project_peer_pod(pod),
            (model::PeerPod{{"shop", "web", "u1"},
                            {{"app", "web"}},
                            {*IpAddress::parse("10.0.0.2"), *IpAddress::parse("fd00::2")},
                            {{"dns", Protocol::kUdp, 53}, {"http", Protocol::kTcp, 8080}, {"side", Protocol::kTcp, 2}},
                            false,
                            "n2"}));
  k8s::Pod over = pod;
  over.mutable_status()->set_phase("Succeeded");
  EXPECT_TRUE(project_peer_pod(over).ips.empty());
  const auto keyed = decode_peer_pod(pod.SerializeAsString());
  ASSERT_TRUE(keyed);
  EXPECT_EQ(keyed->first, "u1");
}

TEST(Decode, NamespacesAndPolicies) {
  const auto name_space = read_text<k8s::Namespace>("metadata: {name: shop, labels: {team: x}}");
  const auto row = decode_namespace(name_space.SerializeAsString());
  ASSERT_TRUE(row);
  EXPECT_EQ(row->first, "shop");
  EXPECT_EQ(row->second.labels, (model::Labels{{"team", "x"}}));
  const auto policy = read_text<k8s::NetworkPolicy>("metadata: {name: p, namespace: shop}\nspec: {podSelector: {}}");
  EXPECT_EQ(decode_network_policy(policy.SerializeAsString())->first, "shop/p");
  EXPECT_FALSE(decode_network_policy("nonsense"));
}

}  // namespace
}  // namespace fairlead::kube
