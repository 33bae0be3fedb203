// SPDX-License-Identifier: Apache-2.0
#include "agent/config/configuration.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "agent/config/fields.h"

namespace fairlead::config {
namespace {

using Flags = std::map<std::string, std::string>;

const HostFacts kHost{
    .hostname = "Node-A.Example", .addresses = {*IpAddress::parse("192.0.2.7")}, .cgroup2_mounts = {"/sys/fs/cgroup"}};

std::string document(const std::string& lines) {
  return "apiVersion: fairlead.io/v1alpha1\nkind: AgentConfiguration\n" + lines;
}

Result<AgentConfiguration> load_lines(const std::string& lines, const Flags& flags = {}) {
  return load_text(document(lines), {.config_file = "agent.yaml", .flags = flags}, kHost);
}

TEST(Configuration, DefaultsComeFromTheHost) {
  const auto out = load({.flags = {{"manifests", "/m"}}}, kHost);
  ASSERT_TRUE(out) << out.error().what;
  EXPECT_EQ(out->node_name, "node-a.example");
  EXPECT_EQ(out->node_ips, kHost.addresses);
  EXPECT_EQ(out->cgroup_root, "/sys/fs/cgroup");
  EXPECT_EQ(out->cgroup_prefix, "");
  EXPECT_TRUE(out->pod_cidrs.empty());  // a Node manifest may name them
  EXPECT_EQ(out->service_cidrs.at(0).str(), "10.96.0.0/16");
  EXPECT_EQ(out->metrics_bind_address->str(), "127.0.0.1:10249");
  EXPECT_EQ(out->healthz_bind_address->str(), "0.0.0.0:10256");
  EXPECT_EQ(out->socket_path(), "/run/fairlead/agent.sock");
}

TEST(Configuration, AnApiServerGivesPodRangesItself) {
  const auto out = load({.flags = {{"kubeconfig", "/k"}}}, kHost);
  ASSERT_TRUE(out);
  EXPECT_TRUE(out->pod_cidrs.empty());
  HostFacts pod = kHost;
  pod.in_cluster = true;
  EXPECT_TRUE(load({}, pod));
  EXPECT_FALSE(load({}, kHost));
  EXPECT_TRUE(load({.flags = {}, .needs_source = false}, kHost));
}

TEST(Configuration, SeveralAgentsKeepTheirPodsApart) {
  const auto out = load_lines("manifests: /m\ncgroupRoot: /sys/fs/cgroup/node-a/\n");
  ASSERT_TRUE(out) << out.error().what;
  EXPECT_EQ(out->cgroup_root, "/sys/fs/cgroup/node-a");
  EXPECT_EQ(out->cgroup_prefix, "/node-a");
}

TEST(Configuration, AFlagWinsOverTheFile) {
  const auto out = load_lines("manifests: /m\nnodeName: from-file\nlogLevel: debug\n", {{"node-name", "from-flag"}});
  ASSERT_TRUE(out) << out.error().what;
  EXPECT_EQ(out->node_name, "from-flag");
  EXPECT_EQ(out->log_level, log::Level::kDebug);
}

TEST(Configuration, ListsMayBeSequencesOrText) {
  const auto sequence = load_lines("manifests: /m\npodCIDR:\n- 10.1.0.0/24\n- fd00:1::/64\n");
  const auto text = load_lines("manifests: /m\npodCIDR: 10.1.0.0/24,fd00:1::/64\n");
  ASSERT_TRUE(sequence) << sequence.error().what;
  ASSERT_TRUE(text);
  EXPECT_EQ(*sequence, *text);
  EXPECT_EQ(text->pod_cidrs.size(), 2U);
}

TEST(Configuration, PathsToOtherNodesAndTheWorld) {
  const auto out = load_lines(
      "manifests: /m\ntunnel: vxlan\nvxlanPort: 4789\nvxlanVNI: 7\nuplinks: [eth0, eth1]\nmasquerade: false\n"
      "nonMasqueradeCIDRs: [10.0.0.0/8, 172.16.0.0/12]\nmasqueradePorts: 50000-50999\n");
  ASSERT_TRUE(out) << out.error().what;
  PathSettings want;
  want.tunnel = Tunnel::kVxlan;
  want.vxlan_port = 4789;
  want.vxlan_vni = 7;
  want.uplinks = {"eth0", "eth1"};
  want.masquerade = false;
  want.non_masquerade_cidrs = {*Cidr::parse("10.0.0.0/8"), *Cidr::parse("172.16.0.0/12")};
  want.masquerade_ports = {50000, 50999};
  EXPECT_EQ(out->paths, want);
}

// The document has two lines before `lines`.
TEST(Configuration, ErrorsNameFileLineAndField) {
  const struct {
    std::string lines;
    std::string want;
  } cases[] = {
      {"manifests: /m\npodCIDR: 10.1.0.0\n", "agent.yaml:4: podCIDR: "},
      {"manifests: /m\npodCIDR: 10.1.0.1/24\n", "agent.yaml:4: podCIDR: "},
      {"manifests: /m\nnodeIP: 10.0.0.1,10.0.0.2\n", "agent.yaml:4: nodeIP: "},
      {"\npodCidr: 10.1.0.0/24\n", "agent.yaml:4: podCidr: unknown field; did you mean podCIDR?"},
      {"colour: blue\n", "agent.yaml:3: colour: unknown field"},
      {"mode: nodes\n", "agent.yaml:3: mode: \"nodes\" is not one of node, dataplane"},
      {"stateDir: state\n", "agent.yaml:3: stateDir: \"state\" is not an absolute path"},
      {"stateDir: [/a]\n", "agent.yaml:3: stateDir: want DIR"},
      {"stateDir: {a: b}\n", "agent.yaml:3: stateDir: want DIR"},
      {"tunnel: geneve\n", "agent.yaml:3: tunnel: \"geneve\" is not one of none, vxlan"},
      {"vxlanPort: 65536\n", "agent.yaml:3: vxlanPort: \"65536\": want a number of 1 to 65535"},
      {"uplinks: [eth0, '']\n", "agent.yaml:3: uplinks: \"\" is no device name"},
      {"masquerade: maybe\n", "agent.yaml:3: masquerade: \"maybe\": want true or false"},
      {"nonMasqueradeCIDRs: 10.0.0.1/8\n", "agent.yaml:3: nonMasqueradeCIDRs: "},
      {"masqueradePorts: 30000-40000\n",
       "agent.yaml:3: masqueradePorts: \"30000-40000\": want a range within 32768-65535"},
      {"drainDelay: fast\n", "agent.yaml:3: drainDelay: \"fast\" is not a duration"},
      {"nodeName: Big\n", "agent.yaml:3: nodeName: \"Big\" is not a node name"},
      {"runtimeEndpoint: /run/x.sock\n", "agent.yaml:3: runtimeEndpoint: "},
      {"healthzBindAddress: 10256\n", "agent.yaml:3: healthzBindAddress: \"10256\": want ADDRESS:PORT"},
      {"mode: node\nlogLevel: info\nmode: node\n", "agent.yaml:5: mode: set twice, first on line 3"},
      {"mode: [\n", "agent.yaml:"},
      {"manifests: /m\ncgroupRoot: /sys/fs/cgroups\n",
       "agent.yaml:4: cgroupRoot: /sys/fs/cgroups is not in the cgroup2 file system at /sys/fs/cgroup"},
      {"manifests: /m\nkubeconfig: /k\n",
       "agent.yaml:3: manifests and agent.yaml:4: kubeconfig exclude each other: objects have one source"},
      {"mode: node\n", "no source of objects"},
      {"manifests: /m\npodCIDR: 10.96.4.0/24\n",
       "agent.yaml:4: podCIDR: 10.96.4.0/24 overlaps 10.96.0.0/16 of --service-cidr, by default"},
      {"---\nmode: node\n", "agent.yaml: want one document, there are 2"},
  };
  for (const auto& [lines, want] : cases) {
    const auto out = load_lines(lines);
    ASSERT_FALSE(out) << lines;
    EXPECT_EQ(out.error().code, Code::kInvalid);
    EXPECT_TRUE(out.error().what.starts_with(want)) << out.error().what << "\nwant: " << want;
  }
  EXPECT_EQ(load_text("kind: AgentConfiguration\n", {.config_file = "a.yaml"}, kHost).error().what,
            "a.yaml: apiVersion: required value");
  EXPECT_EQ(load_text("apiVersion: v1\n", {.config_file = "a.yaml"}, kHost).error().what,
            "a.yaml:1: apiVersion: \"v1\": want fairlead.io/v1alpha1");
  EXPECT_EQ(load_text("", {.config_file = "a.yaml"}, kHost).error().code, Code::kInvalid);
}

TEST(Configuration, AFlagsErrorNamesTheFlag) {
  const auto out = load_lines("manifests: /m\n", {{"pod-cidr", "x"}});
  ASSERT_FALSE(out);
  EXPECT_TRUE(out.error().what.starts_with("--pod-cidr: ")) << out.error().what;
}

TEST(Configuration, WhatIsPrintedReadsBackTheSame) {
  const auto first = load_lines(
      "manifests: /m\nmode: dataplane\nnodeIP: 10.0.0.1,fd00::1\nmetricsBindAddress: off\ndrainDelay: 1m0.5s\n");
  ASSERT_FALSE(first);  // fractions are not Kubernetes's spelling here
  const auto set = load_lines(
      "manifests: /m\nmode: dataplane\nnodeIP: 10.0.0.1,fd00::1\nmetricsBindAddress: off\ndrainDelay: 1m30s\n"
      "logFormat: json\nlogRoot: /l\nshutdownTimeout: 250ms\nrunDir: /r\n");
  ASSERT_TRUE(set) << set.error().what;
  EXPECT_FALSE(set->metrics_bind_address);
  const auto again = load_text(to_json(*set).dump(), {.config_file = "again.yaml"}, kHost);
  ASSERT_TRUE(again) << again.error().what;
  EXPECT_EQ(*again, *set);
}

std::string read_page(const std::string& name) {
  std::ifstream in(std::string(FAIRLEAD_DOCS) + "/" + name);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Documentation, NamesEveryFieldAndFlagWithItsDefault) {
  const std::string configuration = read_page("configuration.md");
  const std::string manual = read_page("fairlead-agent.8.md");
  for (const Field& field : fields()) {
    EXPECT_NE(configuration.find("| `" + field.name + "` |"), std::string::npos) << field.name;
    if (!field.flag.empty()) {
      EXPECT_NE(manual.find("`--" + field.flag + " " + field.placeholder + "`"), std::string::npos) << field.flag;
    }
    const Json value = field.get(AgentConfiguration());
    if (!value.is_string() || !field.default_text.empty()) continue;
    EXPECT_NE(configuration.find("| `" + value.get<std::string>() + "` |"), std::string::npos) << field.name;
  }
}

TEST(Nearest, SuggestsOnlyWhatIsNear) {
  EXPECT_EQ(nearest("healthz-bind-adress", {"log-level", "healthz-bind-address"}), "healthz-bind-address");
  EXPECT_EQ(nearest("xyz", {"mode"}), "");
}

TEST(HostFacts, AreReadFromThisMachine) {
  const HostFacts facts = read_host_facts();
  EXPECT_FALSE(facts.hostname.empty());
  EXPECT_FALSE(facts.cgroup2_mounts.empty());
}

TEST(Durations, RoundTrip) {
  for (const auto& [text, ms] :
       std::map<std::string, int>{{"0", 0}, {"100ms", 100}, {"2s", 2000}, {"1m30s", 90000}, {"1h", 3600000}}) {
    EXPECT_EQ(parse_duration(text)->count(), ms);
    EXPECT_EQ(parse_duration(format_duration(std::chrono::milliseconds(ms)))->count(), ms);
  }
  for (const char* text : {"", "-1s", "5", "5 s", "s", "1d", "99999999999999999999s"})
    EXPECT_FALSE(parse_duration(text)) << text;
}

}  // namespace
}  // namespace fairlead::config
