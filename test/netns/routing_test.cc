// SPDX-License-Identifier: Apache-2.0
// The routing domain in a network namespace of the test's own: real devices, routes and neighbours; the BPF side, whose
// maps and programs are tested elsewhere, is a record of what it was told.
//
//   node (the test) eth0 192.0.2.1/24, 2001:db8::1/64 ──veth── lan
#include "agent/routing/routing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "test/kit/log_lines.h"
#include "test/kit/netns.h"
#include "test/kit/process.h"

namespace fairlead::routing {
namespace {

using namespace std::chrono_literals;
using datapath::Path;
using datapath::PathKind;
using testing::HasSubstr;
using testing::Not;

class FakeNodePaths final : public datapath::NodePaths {
 public:
  Result<> set_path(const Cidr& destination, const Path& path) override {
    all[destination] = path;
    return {};
  }
  Result<> erase_path(const Cidr& destination) override {
    all.erase(destination);
    return {};
  }
  Result<std::map<Cidr, Path>> paths() const override { return all; }
  Result<> set_masquerade(const datapath::Masquerade& told) override {
    masquerade = told;
    return {};
  }
  Result<> set_tunnel(const std::optional<Tunnel>& told) override {
    tunnel = told;
    tunnel_told = true;
    return {};
  }
  Result<> attach_uplink(std::uint32_t ifindex) override {
    uplinks.insert(ifindex);
    return {};
  }
  Result<> attach_tunnel(std::uint32_t ifindex) override {
    tunnels.insert(ifindex);
    return {};
  }
  Result<bool> attached(std::uint32_t ifindex) const override {
    return uplinks.contains(ifindex) || tunnels.contains(ifindex);
  }
  Result<std::set<std::uint32_t>> leftovers(const std::vector<std::uint32_t>&) const override { return left; }
  Result<> detach(std::uint32_t ifindex) override {
    left.erase(ifindex);
    uplinks.erase(ifindex);
    tunnels.erase(ifindex);
    return {};
  }

  std::map<Cidr, Path> all;
  std::optional<datapath::Masquerade> masquerade;
  std::optional<Tunnel> tunnel;
  bool tunnel_told = false;
  std::set<std::uint32_t> uplinks;
  std::set<std::uint32_t> tunnels;
  std::set<std::uint32_t> left;  // of an earlier agent
};

void ip(const std::string& line) {
  const auto done = testkit::run_command("ip " + line);
  ASSERT_EQ(done.code, 0) << line << "\n" << done.output;
}
std::string shown(const std::string& line) {
  return testkit::run_command("ip " + line).output;
}
std::string peers() {
  return testkit::run_command("bridge fdb show dev fl_vxlan").output;
}
std::string setting(const std::string& path) {
  std::ifstream in("/proc/sys/net/" + path);
  return {std::istreambuf_iterator<char>(in), {}};
}
Cidr cidr(const char* text) {
  return *Cidr::parse(text);
}

class RoutingTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto entered = testkit::enter_node_namespace("routing");
    ASSERT_TRUE(entered) << entered.error().message();
  }
  void SetUp() override {
    lan_.emplace(testkit::PodNetns::make("lan").value());
    ip("link add eth0 type veth peer name peer0");
    ip("link set peer0 netns " + lan_->path());
    ip("address add 192.0.2.1/24 dev eth0");
    ip("address add 2001:db8::1/64 dev eth0 nodad");
    ip("link set eth0 up");
    nodes_.emplace(std::vector<std::string>{"api"});
    writer_ = nodes_->writer("api");
  }
  void TearDown() override {
    routing_.reset();
    for (const char* device : {"eth0", "wan0", "fl_vxlan"})
      testkit::run_command(std::string("ip link delete ") + device);
  }

  static Settings settings(bool tunnel) {
    Settings out;
    out.node = "n1";
    out.node_ips = parse_ip_list("192.0.2.1,2001:db8::1").value();
    if (tunnel) out.tunnel = TunnelSettings{};
    return out;
  }

  void start(const Settings& wanted) {
    routing_.reset();
    auto [caller, responder] = make_request<Inspect, Json>();
    ask_ = caller;
    auto [mtu_sender, mtu_reader] = make_channel<model::PodMtu>();
    mtu_ = std::move(mtu_reader);
    routing_ = std::make_unique<Routing>(loop_, Routing::Deps{.settings = wanted,
                                                              .paths = paths_,
                                                              .nodes = nodes_->reader(),
                                                              .inspect = std::move(responder),
                                                              .registry = registry_,
                                                              .audit_period = audit_period_,
                                                              .pod_mtu = mtu_sender});
    const auto started = routing_->start();
    ASSERT_TRUE(started) << started.error().message();
  }

  void node(const std::string& name, std::vector<const char*> ranges, const std::string& addresses) {
    model::Node row;
    row.name = name;
    for (const char* range : ranges) row.pod_cidrs.push_back(cidr(range));
    row.addresses = parse_ip_list(addresses).value();
    writer_.upsert(name, row);
  }

  // In less time than an audit takes to come.
  bool eventually(const std::function<bool()>& holds) {
    return testkit::eventually(
        [&] {
          loop_.poll();
          return holds();
        },
        20s);
  }
  // What is asked of the domain, with its loop turned by the test.
  Json ask(const std::string& op) {
    std::optional<Json> answer;
    ask_.call(loop_, Inspect{op, {}}, 10s, [&](Result<Json> result) { answer = result.value_or(Json()); });
    EXPECT_TRUE(eventually([&] { return answer.has_value(); }));
    return answer.value_or(Json());
  }
  bool synced() {
    return eventually([&] { return ask("routing.sync")["synced"] == true; });
  }

  std::optional<testkit::PodNetns> lan_;
  Loop loop_;
  FakeNodePaths paths_;
  metrics::Registry registry_;
  Duration audit_period_ = 1h;
  std::optional<state::Table<model::Node>> nodes_;
  TableWriter<model::Node> writer_;
  Caller<Inspect, Json> ask_;
  Receiver<model::PodMtu> mtu_;
  std::unique_ptr<Routing> routing_;
};

constexpr auto kV4 = "route show 10.1.2.0/24";
constexpr auto kV6 = "-6 route show fd00:2::/64";

TEST_F(RoutingTest, NativeRoutesComeStayAndGo) {
  ip("route add 10.1.9.0/24 via 192.0.2.9 proto 70 metric 70");  // of a node that left while no agent ran
  ip("route add 10.1.8.0/24 via 192.0.2.9");                     // somebody else's
  paths_.all[cidr("10.1.9.0/24")] = {PathKind::kDirect, {}};
  start(settings(false));
  node("n1", {"10.1.1.0/24", "fd00:1::/64"}, "192.0.2.1");
  node("n2", {"10.1.2.0/24", "fd00:2::/64"}, "192.0.2.2,2001:db8::2");
  ASSERT_TRUE(eventually([] { return !shown(kV4).empty() && !shown(kV6).empty(); }));
  EXPECT_THAT(shown(kV4), HasSubstr("via 192.0.2.2 dev eth0 proto 70 src 192.0.2.1 metric 70"));
  EXPECT_THAT(shown(kV6), HasSubstr("via 2001:db8::2 dev eth0 proto 70 src 2001:db8::1 metric 70"));
  // Nothing goes, and nobody is masqueraded, while there may be nodes that we have not heard of.
  EXPECT_FALSE(shown("route show 10.1.9.0/24").empty());
  EXPECT_TRUE(paths_.all.contains(cidr("10.1.9.0/24")));
  EXPECT_FALSE(paths_.masquerade);
  EXPECT_EQ(ask("routing.sync")["missing"], Json::array({"Node"}));

  writer_.set_complete();
  ASSERT_TRUE(synced());
  EXPECT_TRUE(shown("route show 10.1.9.0/24").empty());
  EXPECT_FALSE(paths_.all.contains(cidr("10.1.9.0/24")));
  EXPECT_FALSE(shown("route show 10.1.8.0/24").empty());
  EXPECT_EQ(paths_.all.at(cidr("10.1.2.0/24")), (Path{PathKind::kNode, *IpAddress::parse("192.0.2.2")}));
  EXPECT_EQ(paths_.all.at(cidr("10.1.1.0/24")).kind, PathKind::kDirect);
  EXPECT_EQ(paths_.masquerade->addresses, settings(false).node_ips);
  EXPECT_TRUE(paths_.tunnel_told && !paths_.tunnel);
  EXPECT_EQ(paths_.uplinks.size(), 1U);
  EXPECT_EQ(setting("ipv4/conf/eth0/forwarding"), "1\n");
  EXPECT_EQ(setting("ipv6/conf/all/forwarding"), "1\n");
  EXPECT_THAT(setting("ipv4/ip_local_reserved_ports"), HasSubstr("61000-65535"));

  ip("route delete 10.1.2.0/24");
  ip("-6 route delete fd00:2::/64");
  EXPECT_TRUE(eventually([] { return !shown(kV4).empty() && !shown(kV6).empty(); }));
  ip("route replace 10.1.2.0/24 via 192.0.2.77 metric 70");
  EXPECT_TRUE(eventually([] { return shown(kV4).find("via 192.0.2.2 ") != std::string::npos; }));
  ip("link set eth0 down");  // the kernel drops its routes without a word
  ip("link set eth0 up");
  ip("address add 2001:db8::1/64 dev eth0 nodad");
  EXPECT_TRUE(eventually([] { return !shown(kV4).empty() && !shown(kV6).empty(); }));

  writer_.erase("n2");
  EXPECT_TRUE(eventually([] { return shown(kV4).empty() && shown(kV6).empty(); }));
  EXPECT_TRUE(eventually([&] { return !paths_.all.contains(cidr("192.0.2.2/32")); }));
}

TEST_F(RoutingTest, ARestartChangesNothingThatIsRight) {
  node("n2", {"10.1.2.0/24"}, "192.0.2.2");
  writer_.set_complete();
  start(settings(false));
  ASSERT_TRUE(synced());
  start(settings(false));
  ASSERT_TRUE(synced());
  for (const auto& family : registry_.Collect()) EXPECT_NE(family.name, "fairlead_routing_repairs_total");
  EXPECT_EQ(ask("routing.sync")["routes_in_force"], 1);
  const Json list = ask("node.list");
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0]["name"], "n2");
  EXPECT_EQ(list[0]["way"], "native");
}

TEST_F(RoutingTest, TheTunnelIsMadeKeptAndTakenAway) {
  node("n1", {"10.1.1.0/24"}, "192.0.2.1");
  node("n2", {"10.1.2.0/24", "fd00:2::/64"}, "192.0.2.2");
  writer_.set_complete();
  start(settings(true));
  ASSERT_TRUE(synced());
  const std::string device = shown("-d link show fl_vxlan");
  for (const char* fact : {"mtu 1450", "vxlan id 1 ", "dstport 8472", "noudpcsum", "nolearning", "0a:f1:c0:00:02:01",
                           "alias fairlead-vxlan", "addrgenmode none", "UP"}) {
    EXPECT_THAT(device, HasSubstr(fact));
  }
  EXPECT_THAT(shown(kV4), HasSubstr("via 10.1.2.0 dev fl_vxlan proto 70 src 192.0.2.1 metric 70 onlink"));
  EXPECT_THAT(shown(kV6), HasSubstr("via fd00:2:: dev fl_vxlan proto 70 src 2001:db8::1 metric 70 onlink"));
  EXPECT_THAT(shown("neighbour show dev fl_vxlan"), HasSubstr("10.1.2.0 lladdr 0a:f1:c0:00:02:02 PERMANENT"));
  EXPECT_THAT(shown("-6 neighbour show dev fl_vxlan"), HasSubstr("fd00:2:: lladdr 0a:f1:c0:00:02:02 PERMANENT"));
  EXPECT_THAT(peers(), HasSubstr("0a:f1:c0:00:02:02 dst 192.0.2.2 self permanent"));
  EXPECT_EQ(setting("ipv4/conf/fl_vxlan/rp_filter"), "2\n");
  EXPECT_TRUE(
      eventually([] { return shown("-4 address show dev fl_vxlan").find("10.1.1.0/32") != std::string::npos; }));
  const auto first = paths_.tunnel;
  ASSERT_TRUE(first);
  EXPECT_EQ(paths_.tunnels, (std::set<std::uint32_t>{first->ifindex}));
  EXPECT_EQ(ask("node.list")[1]["way"], "vxlan");

  ip("neighbour delete 10.1.2.0 dev fl_vxlan");
  EXPECT_TRUE(eventually([] { return shown("neighbour show dev fl_vxlan").find("10.1.2.0") != std::string::npos; }));
  ip("neighbour replace 10.1.2.0 lladdr 02:00:00:00:00:01 dev fl_vxlan nud permanent");
  EXPECT_TRUE(eventually([] {
    return shown("neighbour show dev fl_vxlan").find("10.1.2.0 lladdr 0a:f1:c0:00:02:02") != std::string::npos;
  }));
  for (const char* harm : {"del 0a:f1:c0:00:02:02 dev fl_vxlan", "replace 0a:f1:c0:00:02:02 dev fl_vxlan dst 192.0.2.3",
                           "append 0a:f1:c0:00:02:04 dev fl_vxlan dst 192.0.2.4"}) {
    const std::string before = peers();
    ASSERT_EQ(testkit::run_command(std::string("bridge fdb ") + harm).code, 0) << harm;
    EXPECT_TRUE(eventually([&] { return peers() == before; })) << harm << "\n" << before << "is now\n" << peers();
  }
  ip("link set fl_vxlan mtu 1400");
  EXPECT_TRUE(eventually([] { return shown("link show fl_vxlan").find("mtu 1450") != std::string::npos; }));
  ip("link delete fl_vxlan");
  EXPECT_TRUE(eventually([&] { return paths_.tunnel != first && !shown(kV4).empty() && !shown(kV6).empty(); }));
  ASSERT_TRUE(paths_.tunnel);
  EXPECT_TRUE(paths_.tunnels.contains(paths_.tunnel->ifindex));
  EXPECT_THAT(shown("neighbour show dev fl_vxlan"), HasSubstr("10.1.2.0"));
  EXPECT_TRUE(synced());
  EXPECT_THAT(peers(), HasSubstr("0a:f1:c0:00:02:02 dst 192.0.2.2 self permanent"));

  // Another port is another device.
  Settings moved = settings(true);
  moved.tunnel->port = 4789;
  start(moved);
  EXPECT_TRUE(eventually([] { return shown("-d link show fl_vxlan").find("dstport 4789") != std::string::npos; }));
  EXPECT_TRUE(synced());

  // So is another network, and one over IPv6; an earlier agent's that was told packet by packet is replaced.
  moved.tunnel->vni = 9;
  std::ranges::reverse(moved.node_ips);
  ip("link delete fl_vxlan");
  ip("link add fl_vxlan type vxlan external dstport 4789");
  ip("link set fl_vxlan alias fairlead-vxlan");
  node("n2", {"10.1.2.0/24", "fd00:2::/64"}, "2001:db8::2");
  start(moved);
  EXPECT_TRUE(eventually([] { return shown("-d link show fl_vxlan").find("vxlan id 9 ") != std::string::npos; }));
  EXPECT_TRUE(synced());
  EXPECT_THAT(peers(), HasSubstr("dst 2001:db8::2 self permanent"));
  node("n2", {"10.1.2.0/24", "fd00:2::/64"}, "192.0.2.2");

  // And without a tunnel it goes; the way is the network's.
  start(settings(false));
  EXPECT_TRUE(eventually([] { return shown("link show fl_vxlan").find("does not exist") != std::string::npos; }));
  EXPECT_TRUE(synced());
  EXPECT_THAT(shown(kV4), HasSubstr("via 192.0.2.2 dev eth0"));
  EXPECT_FALSE(paths_.tunnel);
}

TEST_F(RoutingTest, WhatIsNotOursIsNeverTouched) {
  ip("link add fl_vxlan type vxlan external dstport 9999");
  writer_.set_complete();
  start(settings(true));
  EXPECT_TRUE(eventually([&] { return ask("routing.sync")["failing"].contains("device"); }));
  EXPECT_THAT(ask("routing.sync")["failing"]["device"].get<std::string>(), HasSubstr("not ours"));
  EXPECT_THAT(shown("-d link show fl_vxlan"), HasSubstr("dstport 9999"));
  start(settings(false));
  EXPECT_TRUE(synced());
  EXPECT_THAT(shown("-d link show fl_vxlan"), HasSubstr("dstport 9999"));
  ip("link delete fl_vxlan");

  // Somebody else's tunnel on our port, and of our VNI or for any: the kernel takes one.
  for (const char* kind : {"external", "id 1"}) {
    ip(fmt::format("link add other type vxlan {} dstport 8472", kind));
    ip("link set other up");
    start(settings(true));
    EXPECT_TRUE(eventually([&] { return ask("routing.sync")["failing"].contains("device"); })) << kind;
    EXPECT_THAT(ask("routing.sync")["failing"]["device"].get<std::string>(), HasSubstr("set --vxlan-port"));
    ip("link delete other");
    EXPECT_TRUE(synced()) << kind;
    start(settings(false));
    EXPECT_TRUE(eventually([] { return shown("link show fl_vxlan").find("does not exist") != std::string::npos; }));
  }
}

TEST_F(RoutingTest, UplinksAreFollowed) {
  writer_.set_complete();
  Settings named = settings(false);
  named.uplinks = {"wan0"};
  start(named);
  EXPECT_TRUE(eventually([&] { return ask("routing.sync")["failing"].contains("uplink wan0"); }));
  ip("link set eth0 down");
  ip("link set eth0 name wan0");
  ip("link set wan0 up");
  EXPECT_TRUE(synced());
  EXPECT_EQ(ask("routing.sync")["uplinks"], "wan0");
  ASSERT_EQ(paths_.uplinks.size(), 1U);
  const std::uint32_t before = *paths_.uplinks.begin();

  ip("link delete wan0");
  ip("link add wan0 type veth peer name peer1");
  EXPECT_TRUE(eventually([&] { return paths_.uplinks.size() == 1 && *paths_.uplinks.begin() != before; }));

  // By address, from the next start on; the device that was named is let go of.
  const std::uint32_t named_one = *paths_.uplinks.begin();
  ip("link add eth0 type veth peer name peer2");
  ip("address add 192.0.2.1/24 dev eth0");
  start(settings(false));
  EXPECT_TRUE(eventually([&] { return paths_.uplinks.size() == 1 && !paths_.uplinks.contains(named_one); }));
  EXPECT_EQ(ask("routing.sync")["uplinks"], "eth0");
  EXPECT_THAT(ask("routing.sync")["failing"].dump(), HasSubstr("2001:db8::1"));  // no device carries it any more
}

TEST_F(RoutingTest, ProgramsThatAnEarlierAgentLeftAreTakenAway) {
  writer_.set_complete();
  paths_.left = {4242};
  start(settings(false));
  EXPECT_TRUE(synced());
  EXPECT_TRUE(paths_.left.empty());
  EXPECT_EQ(paths_.uplinks.size(), 1U);
}

TEST_F(RoutingTest, ThePodsMtuFollowsTheUplink) {
  const auto told = [&] {
    const std::vector<model::PodMtu> all = mtu_.take();
    return all.empty() ? 0U : all.back().bytes;
  };
  writer_.set_complete();
  start(settings(true));
  ASSERT_TRUE(synced());
  EXPECT_EQ(told(), 1450U);
  ip("link set eth0 mtu 1400");
  EXPECT_TRUE(eventually([&] { return told() == 1350U; }));
  EXPECT_TRUE(eventually([] { return shown("link show fl_vxlan").find("mtu 1350") != std::string::npos; }));
  // While no uplink is there, what was said last holds.
  ip("link delete eth0");
  EXPECT_TRUE(eventually([&] { return ask("routing.sync")["uplinks"] == ""; }));
  EXPECT_EQ(told(), 0U);
}

TEST_F(RoutingTest, ANodeThatIsNotReachedIsLoggedAsThatBeginsAndEnds) {
  start(settings(false));
  writer_.set_complete();
  ASSERT_TRUE(synced());
  testkit::LogLines log;
  std::vector<std::string> lines;
  // Of that node, so far; other lines tell of the kernel.
  const auto logged = [&] {
    for (const std::string& line : log.take()) {
      if (line.find("node=n2") != std::string::npos) lines.push_back(line);
    }
    return lines.size();
  };
  const auto condition = [&] { return ask("routing.sync")["conditions"].value("n2", ""); };
  node("n2", {"10.1.2.0/24"}, "198.51.100.2");
  ASSERT_TRUE(eventually([&] { return logged() == 1; }));
  EXPECT_THAT(lines[0], HasSubstr("a node's pods are not all reached node=n2 reason=\"198.51.100.2 is on no network"));
  node("n3", {"10.1.3.0/24"}, "192.0.2.3");  // another look
  ASSERT_TRUE(eventually([] { return !shown("route show 10.1.3.0/24").empty(); }));
  EXPECT_NE(condition(), "");
  EXPECT_EQ(logged(), 1U);
  node("n2", {"10.1.2.0/24"}, "192.0.2.2");
  ASSERT_TRUE(eventually([&] { return logged() == 2; }));
  EXPECT_THAT(lines[1], HasSubstr("a node's pods are all reached again node=n2 was=\"198.51.100.2 is on no network"));
  writer_.erase("n3");
  ASSERT_TRUE(eventually([] { return shown("route show 10.1.3.0/24").empty(); }));
  EXPECT_EQ(condition(), "");
  EXPECT_EQ(logged(), 2U);
}

TEST_F(RoutingTest, TheAuditFindsWhatNobodyTold) {
  audit_period_ = 20ms;
  node("n2", {"10.1.2.0/24"}, "192.0.2.2");
  writer_.set_complete();
  start(settings(false));
  ASSERT_TRUE(synced());
  paths_.all.erase(cidr("10.1.2.0/24"));
  paths_.all[cidr("10.99.0.0/16")] = {PathKind::kDirect, {}};
  paths_.uplinks.clear();
  testkit::run_command("echo 0 > /proc/sys/net/ipv4/conf/eth0/forwarding");
  EXPECT_TRUE(eventually([&] {
    return paths_.all.contains(cidr("10.1.2.0/24")) && !paths_.all.contains(cidr("10.99.0.0/16")) &&
           paths_.uplinks.size() == 1 && setting("ipv4/conf/eth0/forwarding") == "1\n";
  }));
}

}  // namespace
}  // namespace fairlead::routing
