// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/pod_dns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/unit/pods/pod.h"

namespace fairlead::pods {
namespace {

using Words = std::vector<std::string>;

IpAddress ip(const char* text) {
  return IpAddress::parse(text).value();
}

DnsSettings settings() {
  return {.cluster_servers = {ip("10.96.0.10"), ip("fd00:10:96::a")},
          .cluster_domain = "cluster.local",
          .resolv_conf = "/etc/resolv.conf"};
}

const Resolver kNode{.servers = {"192.0.2.53"}, .searches = {"example.com"}, .options = {"timeout:1"}};
const Words kClusterSearches{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com"};

TEST(PodDns, ReadsAResolvConfAsKubeletDoes) {
  struct Case {
    const char* text;
    Resolver want;
  };
  for (const Case& each : std::initializer_list<Case>{
           {"", {}},
           {"# nameserver 1.1.1.1\n  nameserver 10.0.0.2 # why\n;x\nnameserver\t::1\n",
            {.servers = {"10.0.0.2", "::1"}, .searches = {}, .options = {}}},
           {"search a b\nsearch c. . d\n", {.servers = {}, .searches = {"c", "d"}, .options = {}}},
           {"options ndots:2 trust-ad\noptions ndots:3 rotate\n",
            {.servers = {}, .searches = {}, .options = {"ndots:3", "trust-ad", "rotate"}}},
           {"domain x\nsortlist 1.1.1.1", {}},
       }) {
    const auto got = parse_resolv_conf(each.text);
    ASSERT_TRUE(got) << got.error().message();
    EXPECT_EQ(*got, each.want) << each.text;
  }
  EXPECT_EQ(parse_resolv_conf("nameserver \n").error().message(), "nameserver list is empty");
}

TEST(PodDns, ByPolicy) {
  struct Case {
    const char* policy;
    bool host_network;
    Resolver want;
  };
  const Resolver cluster{
      .servers = {"10.96.0.10", "fd00:10:96::a"}, .searches = kClusterSearches, .options = {"ndots:5"}};
  for (const Case& each : std::initializer_list<Case>{
           {"ClusterFirst", false, cluster},
           {"ClusterFirst", true, kNode},
           {"ClusterFirstWithHostNet", false, cluster},
           {"ClusterFirstWithHostNet", true, cluster},
           {"Default", false, kNode},
           {"None", false, {}},
       }) {
    k8s::Pod pod = make_pod();
    pod.mutable_spec()->set_dnspolicy(each.policy);
    pod.mutable_spec()->set_hostnetwork(each.host_network);
    const PodDns got = pod_dns(pod, settings(), kNode, {});
    EXPECT_EQ(got.resolver, each.want) << each.policy << each.host_network;
    EXPECT_TRUE(got.warnings.empty());
    EXPECT_EQ(uses_node_resolver(pod), each.policy != std::string("None"));
  }
}

TEST(PodDns, WithoutAClusterDnsTheNodesServesAndIsSaid) {
  k8s::Pod pod = make_pod();
  pod.mutable_spec()->set_dnspolicy("ClusterFirst");
  DnsSettings without = settings();
  without.cluster_servers.clear();
  const PodDns got = pod_dns(pod, without, kNode, {});
  EXPECT_EQ(got.resolver, kNode);
  ASSERT_EQ(got.warnings.size(), 1U);
  EXPECT_EQ(got.warnings[0].reason, "MissingClusterDNS");
  EXPECT_TRUE(got.warnings[0].message.starts_with("pod: \"p_ns(u1)\"."));
}

TEST(PodDns, WithoutAClusterDomainThereAreTheNodesSearches) {
  DnsSettings without = settings();
  without.cluster_domain.clear();
  EXPECT_EQ(pod_dns(make_pod(), without, kNode, {}).resolver.searches, kNode.searches);
}

TEST(PodDns, WithoutAFileOfTheNodesNothingIsLookedUp) {
  k8s::Pod pod = make_pod();
  pod.mutable_spec()->set_dnspolicy("Default");
  DnsSettings without = settings();
  without.resolv_conf.clear();
  EXPECT_EQ(pod_dns(pod, without, {}, {ip("192.0.2.1"), ip("2001:db8::1")}).resolver,
            (Resolver{.servers = {"127.0.0.1", "::1"}, .searches = {"."}, .options = {}}));
  EXPECT_EQ(pod_dns(pod, without, {}, {}).resolver.servers, Words{"127.0.0.1"});
}

TEST(PodDns, ThePodsOwnIsMerged) {
  k8s::Pod pod = make_pod();
  auto& own = *pod.mutable_spec()->mutable_dnsconfig();
  own.add_nameservers("10.96.0.10");
  own.add_nameservers("10.0.0.3");
  own.add_searches("cluster.local");
  own.add_searches("c");
  own.add_options()->set_name("ndots");
  own.mutable_options(0)->set_value("2");
  own.add_options()->set_name("edns0");
  Resolver got = pod_dns(pod, settings(), kNode, {}).resolver;
  EXPECT_EQ(got.servers, (Words{"10.96.0.10", "fd00:10:96::a", "10.0.0.3"}));
  Words searches = kClusterSearches;
  searches.emplace_back("c");
  EXPECT_EQ(got.searches, searches);
  EXPECT_EQ(got.options, (Words{"ndots:2", "edns0"}));
  pod.mutable_spec()->set_dnspolicy("None");
  got = pod_dns(pod, settings(), kNode, {}).resolver;
  EXPECT_EQ(got, (Resolver{.servers = {"10.96.0.10", "10.0.0.3"},
                           .searches = {"cluster.local", "c"},
                           .options = {"ndots:2", "edns0"}}));
}

TEST(PodDns, WhatIsOverTheLimitsIsCutAndSaid) {
  struct Case {
    std::size_t servers;
    Words searches;
    std::size_t servers_left;
    std::size_t searches_left;
    std::size_t warnings;
  };
  const auto paths = [](std::size_t count, std::size_t length) {
    Words all;
    for (std::size_t i = 0; i < count; ++i) all.push_back(fmt::format("{:x>{}}", i, length));
    return all;
  };
  for (const Case& each : std::initializer_list<Case>{
           {3, paths(32, 63), 3, 32, 0},  // 2047 characters
           {4, {}, 3, 0, 1},
           {0, paths(33, 2), 0, 32, 1},
           {0, paths(32, 64), 0, 31, 1},  // 2079, then 2014
           {0, paths(1, 253), 0, 1, 0},
           {0, paths(2, 254), 0, 0, 1},
           {5, paths(40, 3), 3, 32, 2},
       }) {
    k8s::Pod pod = make_pod();
    pod.mutable_spec()->set_dnspolicy("Default");
    Resolver node{.servers = {}, .searches = each.searches, .options = {}};
    for (std::size_t i = 0; i < each.servers; ++i) node.servers.push_back(fmt::format("192.0.2.{}", i));
    const PodDns got = pod_dns(pod, settings(), node, {});
    EXPECT_EQ(got.resolver.servers.size(), each.servers_left);
    EXPECT_EQ(got.resolver.searches.size(), each.searches_left);
    ASSERT_EQ(got.warnings.size(), each.warnings);
    for (const Warning& warning : got.warnings) EXPECT_EQ(warning.reason, "DNSConfigForming");
  }
}

TEST(PodDns, TheWarningsAreKubelets) {
  k8s::Pod pod = make_pod();
  pod.mutable_spec()->set_dnspolicy("Default");
  const Resolver node{
      .servers = {"1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"}, .searches = {std::string(254, 'a'), "b"}, .options = {}};
  EXPECT_EQ(pod_dns(pod, settings(), node, {}).warnings,
            (std::vector<Warning>{{"DNSConfigForming",
                                   "Nameserver limits were exceeded, some nameservers have been omitted, the applied "
                                   "nameserver line is: 1.1.1.1 1.1.1.2 1.1.1.3"},
                                  {"DNSConfigForming",
                                   "Search Line limits were exceeded, some search paths have been omitted, the applied "
                                   "search line is: b"}}));
}

}  // namespace
}  // namespace fairlead::pods
