// SPDX-License-Identifier: Apache-2.0
#include "agent/config/kube_proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "agent/config/configuration.h"

namespace fairlead::config {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

const HostFacts kHost{
    .hostname = "node-a", .addresses = {*IpAddress::parse("192.0.2.7")}, .cgroup2_mounts = {"/sys/fs/cgroup"}};

std::string document(const std::string& lines) {
  return "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n" + lines;
}

Result<AgentConfiguration> load_lines(const std::string& lines, std::map<std::string, std::string> flags = {}) {
  return load_text(document(lines), {.config_file = "proxy.yaml", .flags = std::move(flags), .needs_source = false},
                   kHost);
}

// As kubeadm 1.37 writes it.
constexpr auto kKubeadm = R"(bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
)";

TEST(KubeProxyFile, AFileOfKubeadmsIsReadAsItIs) {
  const auto out = load_lines(kKubeadm);
  ASSERT_TRUE(out) << out.error().what;
  EXPECT_EQ(out->kubeconfig, "/var/lib/kube-proxy/kubeconfig.conf");
  EXPECT_EQ(out->conntrack, ConntrackSettings());
  EXPECT_EQ(out->node_name, "node-a");
  EXPECT_EQ(out->node_ips, kHost.addresses);
  EXPECT_EQ(out->healthz_bind_address->str(), "0.0.0.0:10256");
  EXPECT_THAT(out->without_effect, testing::Contains("proxy.yaml:11: clusterCIDR"));
}

TEST(KubeProxyFile, EachFieldActsOrIsNamed) {
  const auto out = load_lines(R"(hostnameOverride: other
bindAddress: 192.0.2.9
healthzBindAddress: 127.0.0.1
metricsBindAddress: "[::1]:9999"
mode: ipvs
ipvs:
  scheduler: mh
  strictARP: true
logging:
  verbosity: 5
  format: json
conntrack:
  maxPerCore: 1000
  min: 5
  tcpBeLiberal: true
  tcpCloseWaitTimeout: 1h0m1s
  tcpEstablishedTimeout: 24h0m1s
  udpStreamTimeout: 3m
  udpTimeout: 31s
featureGates:
  SomeGate: true
nodePortAddresses: [primary]
portRange: ""
)");
  ASSERT_TRUE(out) << out.error().what;
  EXPECT_EQ(out->node_name, "other");
  EXPECT_EQ(out->node_ips.at(0).str(), "192.0.2.9");
  EXPECT_EQ(out->healthz_bind_address->str(), "127.0.0.1:10256");
  EXPECT_EQ(out->metrics_bind_address->str(), "[::1]:9999");
  EXPECT_EQ(out->load_balancing, Balancing::kMaglev);
  EXPECT_EQ(out->log_level, log::Level::kDebug);
  EXPECT_EQ(out->log_format, log::Format::kJson);
  const ConntrackSettings want{.tcp_established_timeout = 24h + 1s,
                               .tcp_close_wait_timeout = 1h + 1s,
                               .udp_timeout = 31s,
                               .udp_stream_timeout = 3min,
                               .tcp_be_liberal = true,
                               .max_per_core = 1000,
                               .min = 5};
  EXPECT_EQ(out->conntrack, want);
  EXPECT_THAT(out->without_effect,
              UnorderedElementsAre("proxy.yaml:7: mode", "proxy.yaml:10: ipvs.strictARP", "proxy.yaml:22: featureGates",
                                   "proxy.yaml:24: nodePortAddresses"));
}

TEST(KubeProxyFile, SchedulersAreOfModeIpvs) {
  for (const auto& [scheduler, want] :
       std::map<std::string, Balancing>{{"rr", Balancing::kRoundRobin}, {"wlc", Balancing::kLeastConnections}}) {
    EXPECT_EQ(load_lines("mode: ipvs\nipvs:\n  scheduler: " + scheduler + "\n")->load_balancing, want);
  }
  const auto other = load_lines("mode: nftables\nipvs:\n  scheduler: rr\n");
  EXPECT_EQ(other->load_balancing, Balancing::kRandom);
  EXPECT_THAT(other->without_effect, ElementsAre("proxy.yaml:3: mode", "proxy.yaml:5: ipvs.scheduler"));
}

// The document has two lines before `lines`.
TEST(KubeProxyFile, ErrorsNameFileLineAndField) {
  const struct {
    std::string lines;
    std::string want;
  } cases[] = {
      {"conntrack:\n  maxPerCores: 1\n",
       "proxy.yaml:4: conntrack.maxPerCores: unknown field; did you mean conntrack.maxPerCore?"},
      {"iptable: {}\n", "proxy.yaml:3: iptable: unknown field"},
      {"mode: iptables\nmode: ipvs\n", "proxy.yaml:4: mode: set twice, first on line 3"},
      {"conntrack: 7\n", "proxy.yaml:3: conntrack: want a map"},
      {"conntrack:\n  min: many\n", "proxy.yaml:4: conntrack.min: \"many\" is not a number"},
      {"conntrack:\n  min: -1\n", "proxy.yaml:4: conntrack.min: \"-1\""},
      {"conntrack:\n  udpTimeout: 5\n", "proxy.yaml:4: conntrack.udpTimeout: \"5\" is not a duration"},
      {"conntrack:\n  tcpBeLiberal: 1\n", "proxy.yaml:4: conntrack.tcpBeLiberal: \"1\" is neither"},
      {"bindAddress: here\n", "proxy.yaml:3: bindAddress: \"here\""},
      {"healthzBindAddress: nowhere\n", "proxy.yaml:3: healthzBindAddress: "},
      {"hostnameOverride: [a]\n", "proxy.yaml:3: hostnameOverride: want one value"},
      {"hostnameOverride: A_B\n", "proxy.yaml:3: hostnameOverride: \"A_B\" is not a node name"},
      {"mode: {\n", "proxy.yaml:"},
  };
  for (const auto& each : cases) {
    const auto out = load_lines(each.lines);
    ASSERT_FALSE(out) << each.lines;
    EXPECT_EQ(out.error().code, Code::kInvalid);
    EXPECT_THAT(out.error().what, HasSubstr(each.want));
  }
  EXPECT_THAT(read_kube_proxy_file("f", "apiVersion: v2\nkind: KubeProxyConfiguration\n").error().what,
              HasSubstr("f:1: apiVersion: \"v2\": want kubeproxy.config.k8s.io/v1alpha1"));
  EXPECT_THAT(read_kube_proxy_file("f", "kind: KubeProxyConfiguration\n").error().what,
              HasSubstr("f: apiVersion: required value"));
}

TEST(KubeProxyFile, FlagsAndOurOwnFileWin) {
  const auto flag = load_lines("hostnameOverride: other\nclientConnection:\n  kubeconfig: /k\n",
                               {{"node-name", "mine"}, {"manifests", "/m"}});
  ASSERT_TRUE(flag) << flag.error().what;
  EXPECT_EQ(flag->node_name, "mine");
  EXPECT_EQ(flag->kubeconfig, "");
  EXPECT_THAT(flag->without_effect,
              ElementsAre("proxy.yaml:3: hostnameOverride", "proxy.yaml:5: clientConnection.kubeconfig"));

  const std::string path = std::filesystem::temp_directory_path() / fmt::format("kube-proxy-{}.yaml", getpid());
  std::ofstream(path) << document("hostnameOverride: other\nconntrack:\n  min: 7\n");
  const Settings settings{.config_file = "agent.yaml", .flags = {{"proxy-config", path}}, .needs_source = false};
  const std::string head = "apiVersion: fairlead.io/v1alpha1\nkind: AgentConfiguration\n";
  const auto both = load_text(head + "nodeName: mine\n", settings, kHost);
  ASSERT_TRUE(both) << both.error().what;
  EXPECT_EQ(both->node_name, "mine");
  EXPECT_EQ(both->conntrack.min, 7U);
  EXPECT_EQ(load_text(head, settings, kHost)->node_name, "other");
  EXPECT_THAT(load_text(document(""), settings, kHost).error().what, HasSubstr("are both KubeProxyConfiguration"));
  std::filesystem::remove(path);
  EXPECT_THAT(load_text(head, settings, kHost).error().message(), HasSubstr("--proxy-config: read " + path));
}

}  // namespace
}  // namespace fairlead::config
