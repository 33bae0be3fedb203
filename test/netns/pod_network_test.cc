// SPDX-License-Identifier: Apache-2.0
// The pod network of one node: the real plugin, real devices and programs, real traffic.
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <fstream>
#include <set>

#include "agent/base/socket_name.h"
#include "agent/netlink/netns.h"
#include "test/kit/packet.h"
#include "test/kit/process.h"
#include "test/netns/pod_network_fixture.h"

namespace fairlead::network {
namespace {

using testing::HasSubstr;
using testkit::eventually;
using testkit::PodNetns;

constexpr const char* kDual = "10.1.0.0/24,fd00:1::/64";

IpAddress ip(const std::string& text) {
  return IpAddress::parse(text).value();
}

// A pod's namespace and what ADD gave it.
class PodNetwork : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto entered = testkit::enter_node_namespace("pod-network");
    ASSERT_TRUE(entered) << entered.error().message();
    auto socket = netlink::Socket::open().value();
    const std::uint32_t loopback = socket.find_link("lo").value().ifindex;
    ASSERT_TRUE(socket.add_address(loopback, ip("10.0.0.1")));
    ASSERT_TRUE(socket.add_address(loopback, ip("fd00:ffff::1")));
  }

  void SetUp() override { restart(); }

  // Each test leaves an empty node.
  void TearDown() override {
    const Json left = node_->ask("endpoint.list", {}).value();
    for (const Json& endpoint : left) {
      EXPECT_TRUE(node_->ask("cni.del", endpoint));
    }
    EXPECT_TRUE(eventually([&] { return our_devices().empty(); }));
    EXPECT_TRUE(node_->programs->endpoints().empty());
    EXPECT_EQ(sockets_.clients.size(), 1U);  // the node itself
    node_.reset();
    std::filesystem::remove(testkit::folder() + "/ipam.json");
  }

  void restart(const std::string& cidrs = kDual, bool waits_for_pods = false) {
    node_.reset();
    node_ = std::make_unique<Node>(cidrs, sockets_, waits_for_pods);
    ASSERT_TRUE(node_->started) << node_->started.error().message();
  }

  static std::vector<std::string> our_devices() {
    std::vector<std::string> names;
    auto socket = netlink::Socket::open().value();
    const std::vector<netlink::Link> links = socket.links().value();
    for (const netlink::Link& link : links) {
      if (link.name.starts_with("fl") && link.name != "fl-foreign") names.push_back(link.name);
    }
    return names;
  }

  // CHECK with what ADD answered.
  static PluginResult check(const AttachedPod& pod) {
    Attachment attachment{.container = pod.container, .ifname = "eth0", .netns = pod.netns.path()};
    attachment.addresses = pod.addresses;
    Json configuration = plugin_configuration();
    configuration["prevResult"] = cni_result(attachment, 1450);
    return run_plugin("CHECK", pod.container, pod.netns.path(), configuration.dump());
  }

  static testkit::Ethernet ethernet_of(const std::string& container) {
    const Attachment attachment{.container = container, .ifname = "eth0"};
    return {host_mac(attachment), pod_mac(attachment)};
  }

  FakeSocketClients sockets_;
  std::unique_ptr<Node> node_;
};

TEST_F(PodNetwork, AddAnswersWithWhatThePodGot) {
  const PodNetns netns = PodNetns::make("a").value();
  const PluginResult added = run_plugin("ADD", "a", netns.path());
  ASSERT_EQ(added.exit_code, 0) << added.output;
  const Attachment attachment{.container = "a", .ifname = "eth0"};
  EXPECT_EQ(added.output,
            (Json{{"cniVersion", "1.0.0"},
                  {"interfaces",
                   {{{"name", device_name(attachment)}, {"mac", to_string(host_mac(attachment))}},
                    {{"name", "eth0"}, {"mac", to_string(pod_mac(attachment))}, {"sandbox", netns.path()}}}},
                  {"ips",
                   {{{"address", "10.1.0.2/32"}, {"gateway", "169.254.1.1"}, {"interface", 1}},
                    {{"address", "fd00:1::2/128"}, {"gateway", "fe80::1"}, {"interface", 1}}}},
                  {"routes", {{{"dst", "0.0.0.0/0"}, {"gw", "169.254.1.1"}}, {{"dst", "::/0"}, {"gw", "fe80::1"}}}},
                  {"dns", Json::object()}}));
  const std::uint64_t cookie = netlink::open_netns(netns.path()).value().cookie;
  EXPECT_EQ(sockets_.clients.at(cookie), (std::vector{ip("10.1.0.2"), ip("fd00:1::2")}));
  const Json endpoint = node_->ask("endpoint.get", {{"name", "default/pod-a"}}).value();
  EXPECT_EQ(endpoint["container"], "a");
  EXPECT_EQ(endpoint["addresses"], (Json{"10.1.0.2", "fd00:1::2"}));
}

TEST_F(PodNetwork, PodsAndTheNodeReachEachOtherUnderTheirOwnAddresses) {
  const AttachedPod a = attach_pod("a");
  const AttachedPod b = attach_pod("b");
  for (std::size_t family = 0; family < 2; ++family) {
    const IpAddress node = ip(family == 0 ? "10.0.0.1" : "fd00:ffff::1");
    auto connection = connect_tcp(&a.netns, &b.netns, b.addresses[family]);
    ASSERT_TRUE(connection) << b.addresses[family].str();
    EXPECT_EQ(connection->client_seen, a.addresses[family]);
    EXPECT_TRUE(exchange_udp(&a.netns, &b.netns, b.addresses[family]));
    connection = connect_tcp(nullptr, &a.netns, a.addresses[family]);
    ASSERT_TRUE(connection);
    EXPECT_EQ(connection->client_seen, node);
    connection = connect_tcp(&a.netns, nullptr, node);
    ASSERT_TRUE(connection);
    EXPECT_EQ(connection->client_seen, a.addresses[family]);
    EXPECT_TRUE(connect_tcp(&a.netns, &a.netns, a.addresses[family])) << "a pod reaches itself";
  }
  EXPECT_EQ(node_->packets("source_address") + node_->packets("destination") + node_->packets("source_mac"), 0U);
}

TEST_F(PodNetwork, EachFamilyAloneWorksToo) {
  for (const char* cidr : {"10.2.0.0/24", "fd00:2::/64"}) {
    restart(cidr);
    {
      const AttachedPod a = attach_pod("a");
      const AttachedPod b = attach_pod("b");
      ASSERT_EQ(a.addresses.size(), 1U);
      EXPECT_TRUE(connect_tcp(&a.netns, &b.netns, b.addresses[0]));
      EXPECT_TRUE(connect_tcp(nullptr, &b.netns, b.addresses[0]));
      EXPECT_EQ(run_plugin("DEL", "a", "").exit_code, 0);
      EXPECT_EQ(run_plugin("DEL", "b", "").exit_code, 0);
    }
  }
}

TEST_F(PodNetwork, SpoofedFramesReachNobody) {
  const AttachedPod a = attach_pod("a");
  const AttachedPod b = attach_pod("b");
  const std::uint64_t before = node_->packets("source_address");
  for (const auto& [source, target] : {std::pair{b.addresses[0], ip("10.0.0.1")},
                                       {ip("10.0.0.1"), b.addresses[0]},
                                       {ip("fd00:9::9"), b.addresses[1]}}) {
    send_frame(a.netns, testkit::frame(ethernet_of("a"), testkit::Ip{source, target}, testkit::udp(1, 8080)));
  }
  EXPECT_EQ(node_->packets("source_address"), before + 3);
  send_frame(a.netns, testkit::frame({ethernet_of("a").destination, {2, 2, 2, 2, 2, 2}},
                                     testkit::Ip{a.addresses[0], b.addresses[0]}, testkit::udp(1, 8080)));
  EXPECT_EQ(node_->packets("source_mac"), 1U);
}

TEST_F(PodNetwork, TheGuardIsThereBeforeTheDeviceIsUp) {
  const AttachedPod a = attach_pod("a");
  EXPECT_FALSE(node_->watched->attached_while_up);
  const Json endpoint = node_->ask("endpoint.get", {{"name", "a"}}).value();
  EXPECT_TRUE(node_->programs->attached(endpoint["ifindex"]).value());
}

TEST_F(PodNetwork, TheLastHopIsAnsweredByTheNode) {
  const AttachedPod a = attach_pod("a");
  const AttachedPod b = attach_pod("b");
  int error = 0;
  a.netns.run([&] {
    const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const int ttl = 1;
    const int on = 1;
    const timeval timeout{2, 0};
    setsockopt(fd.get(), IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
    setsockopt(fd.get(), IPPROTO_IP, IP_RECVERR, &on, sizeof(on));
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    const SocketName to = socket_name(b.addresses[0], 9);
    EXPECT_EQ(connect(fd.get(), to.get(), to.size), 0);
    EXPECT_EQ(send(fd.get(), "x", 1, 0), 1);
    char buffer[1];
    EXPECT_LT(recv(fd.get(), buffer, sizeof(buffer), 0), 0);
    error = errno;
  });
  EXPECT_EQ(error, EHOSTUNREACH);  // ICMP time exceeded
}

TEST_F(PodNetwork, AddTwiceIsAddOnce) {
  const AttachedPod a = attach_pod("a");
  // All but when it was asked for, which spares it from DELs that are older.
  const auto listed = [&] {
    Json all = node_->ask("endpoint.list", {}).value();
    for (Json& each : all) each.erase("addedNs");
    return all;
  };
  const Json before = listed();
  const PluginResult again = run_plugin("ADD", "a", a.netns.path());
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_EQ(listed(), before);
}

TEST_F(PodNetwork, AddAfterTheSandboxWasMadeAnewStartsFromTheBeginning) {
  AttachedPod a = attach_pod("a");
  const PodNetns fresh = PodNetns::make("fresh").value();
  const PluginResult again = run_plugin("ADD", "a", fresh.path());
  ASSERT_EQ(again.exit_code, 0) << again.output;
  EXPECT_NE(again.output["ips"][0]["address"], Cidr::host(a.addresses[0]).str());
  EXPECT_TRUE(connect_tcp(nullptr, &fresh, Cidr::parse(again.output["ips"][0]["address"].get<std::string>())->base()));
}

TEST_F(PodNetwork, DelSucceedsInAnyOrderAndKeepsTheAddressAtRest) {
  EXPECT_EQ(run_plugin("DEL", "a", "").exit_code, 0);
  IpAddress first;
  {
    const AttachedPod a = attach_pod("a");
    first = a.addresses[0];
    EXPECT_EQ(run_plugin("DEL", "a", a.netns.path()).exit_code, 0);
    EXPECT_TRUE(node_->programs->endpoints().empty()) << "the pod is out of the maps once DEL has answered";
    EXPECT_EQ(run_plugin("DEL", "a", "").exit_code, 0);
    const PluginResult again = run_plugin("ADD", "a", a.netns.path());  // the old device may still be there
    ASSERT_EQ(again.exit_code, 0) << again.output;
    EXPECT_NE(again.output["ips"][0]["address"], Cidr::host(first).str());
    EXPECT_EQ(run_plugin("DEL", "a", "/nowhere").exit_code, 0);
  }
}

TEST_F(PodNetwork, APodWhoseNamespaceEndsIsOutOfTheMapsBeforeDel) {
  {
    const AttachedPod a = attach_pod("a");
  }
  EXPECT_TRUE(eventually([&] { return node_->ask("endpoint.get", {{"name", "a"}}).value()["ifindex"] == 0; }));
  EXPECT_TRUE(node_->programs->endpoints().empty());
  EXPECT_NE(attach_pod("b").addresses[0], ip("10.1.0.2")) << "its address is its own until DEL";
  EXPECT_EQ(run_plugin("DEL", "a", "").exit_code, 0);
  EXPECT_EQ(node_->ask("endpoint.list", {}).value().size(), 1U);
}

TEST_F(PodNetwork, CheckSeesWhatIsMissing) {
  const AttachedPod a = attach_pod("a");
  EXPECT_EQ(check(a).exit_code, 0);
  EXPECT_EQ(check({"b", PodNetns::make("b").value(), {}}).output["code"], 3);
  auto inside = netlink::open_netns(a.netns.path()).value();
  ASSERT_TRUE(inside.socket.delete_link(inside.socket.find_link("eth0").value().ifindex));
  const PluginResult checked = check(a);
  EXPECT_EQ(checked.exit_code, 1);
  EXPECT_THAT(checked.output.value("msg", ""), HasSubstr(device_name({.container = "a", .ifname = "eth0"})));
}

TEST_F(PodNetwork, ThePluginServesAsLoopbackToo) {
  const PodNetns netns = PodNetns::make("a").value();
  const std::string configuration = R"({"cniVersion": "0.4.0", "name": "cni-loopback", "type": "loopback"})";
  EXPECT_EQ(run_plugin("CHECK", "a", netns.path(), configuration).exit_code, 1);
  const PluginResult added = run_plugin("ADD", "a", netns.path(), configuration);
  ASSERT_EQ(added.exit_code, 0) << added.output;
  EXPECT_EQ(added.output["ips"][0], (Json{{"address", "127.0.0.1/8"}, {"interface", 0}, {"version", "4"}}));
  EXPECT_TRUE(connect_tcp(&netns, &netns, ip("127.0.0.1")));
  EXPECT_TRUE(connect_tcp(&netns, &netns, ip("::1")));
  EXPECT_EQ(run_plugin("CHECK", "a", netns.path(), configuration).exit_code, 0);
  EXPECT_EQ(run_plugin("DEL", "a", "", configuration).exit_code, 0);
  EXPECT_EQ(run_plugin("ADD", "a", "/nowhere", configuration).output["code"], 4);
}

TEST_F(PodNetwork, ThePluginRefusesByTheSpecsCodes) {
  EXPECT_EQ(run_plugin("ADD", "a", "/x", "garbage {").output["code"], 6);
  EXPECT_EQ(run_plugin("ADD", "a", "/x", "[]").output["code"], 6);
  EXPECT_EQ(run_plugin("ADD", "a", "/x", R"({"cniVersion": "1.0.0"})").output["code"], 7);
  EXPECT_EQ(run_plugin("ADD", "a", "/x", R"({"cniVersion": "9.0.0", "name": "n", "runDir": "/x"})").output["code"], 1);
  EXPECT_EQ(run_plugin("ADD", "a", "").output["code"], 4);
  EXPECT_EQ(run_plugin("GROW", "a", "/x").output["code"], 4);
  const PluginResult absent = run_plugin("ADD", "a", "/nowhere.netns");
  EXPECT_EQ(absent.output["code"], 4);
  EXPECT_THAT(absent.output.value("msg", ""), HasSubstr("/nowhere.netns"));
  EXPECT_EQ(run_plugin("ADD", "a", "/etc/hostname").output["code"], 4);
  EXPECT_EQ(run_plugin("ADD", "a", "/proc/self/ns/net").output["code"], 4) << "the node's own namespace";
}

TEST_F(PodNetwork, AFullRangeSaysSoAndRecoversWhenAnAddressHasRested) {
  restart("10.3.0.0/29");  // five addresses
  std::vector<AttachedPod> pods;
  for (const char* name : {"a", "b", "c", "d", "e"}) pods.push_back(attach_pod(name));
  const PodNetns netns = PodNetns::make("f").value();
  const PluginResult full = run_plugin("ADD", "f", netns.path());
  EXPECT_EQ(full.output["code"], 11);
  EXPECT_THAT(full.output.value("msg", ""), HasSubstr("10.3.0.0/29"));
  EXPECT_EQ(run_plugin("DEL", "c", "").exit_code, 0);
  EXPECT_EQ(run_plugin("ADD", "f", netns.path()).output["code"], 11) << "it rests";
  node_->clock.advance(std::chrono::seconds(31));
  const PluginResult added = run_plugin("ADD", "f", netns.path());
  EXPECT_EQ(added.exit_code, 0) << added.output;
  EXPECT_EQ(added.output["ips"][0]["address"], Cidr::host(pods[2].addresses[0]).str());
}

// Ranges come with the Node object, are remembered for a start without it, and may be others one day.
TEST_F(PodNetwork, RangesOfTheNodeObjectAreTakenAndRemembered) {
  std::filesystem::remove(testkit::folder() + "/ipam.json");
  restart("");
  const PodNetns netns = PodNetns::make("a").value();
  const PluginResult early = run_plugin("ADD", "a", netns.path());
  EXPECT_EQ(early.output["code"], 11);
  EXPECT_THAT(early.output.value("msg", ""), HasSubstr("spec.podCIDRs"));
  const auto give = [&](const std::string& ranges) {
    node_->node_table.writer("api").upsert("n", model::Node{"n", "u", {}, parse_cidr_list(ranges).value()});
  };
  give("10.4.0.0/24,fd00:4::/64");
  EXPECT_TRUE(eventually([&] { return run_plugin("ADD", "a", netns.path()).exit_code == 0; }));
  restart("");
  const AttachedPod b = attach_pod("b");
  EXPECT_TRUE(Cidr::parse("10.4.0.0/24").value().contains(b.addresses[0]));
  give("10.5.0.0/24,fd00:5::/64");
  std::optional<AttachedPod> c;
  EXPECT_TRUE(eventually([&] {
    EXPECT_EQ(run_plugin("DEL", "c", "").exit_code, 0);
    c.emplace(attach_pod("c"));
    return Cidr::parse("10.5.0.0/24").value().contains(c->addresses[0]);
  }));
  EXPECT_EQ(check(b).exit_code, 0);
  EXPECT_TRUE(connect_tcp(&b.netns, &c->netns, c->addresses[0]));
}

// Beside a stock kubelet: what a pod is must be known before its first packet.
TEST_F(PodNetwork, AnAddWaitsForThePodObjectThenAsksToTryAgain) {
  restart(kDual, true);
  const PodNetns netns = PodNetns::make("a").value();
  const PluginResult unknown = run_plugin("ADD", "a", netns.path());
  EXPECT_EQ(unknown.output["code"], 11);
  EXPECT_THAT(unknown.output.value("msg", ""), HasSubstr("default/pod-a"));
  std::jthread later([&] {
    node_->pod_table.writer("api").upsert(
        "uid", model::Pod{.id = {"default", "pod-a", "uid"}, .object = nullptr, .source = "api"});
  });
  EXPECT_EQ(run_plugin("ADD", "a", netns.path()).exit_code, 0);
}

TEST_F(PodNetwork, ARestartKeepsConnectionsAndAdoptsPods) {
  const AttachedPod a = attach_pod("a");
  const AttachedPod b = attach_pod("b");
  auto pods = connect_tcp(&a.netns, &b.netns, b.addresses[0]);
  auto host = connect_tcp(nullptr, &b.netns, b.addresses[1]);
  ASSERT_TRUE(pods && host);
  const Json before = node_->ask("endpoint.list", {}).value();
  node_.reset();
  EXPECT_TRUE(pods->works() && host->works()) << "no agent";
  EXPECT_TRUE(connect_tcp(&b.netns, &a.netns, a.addresses[1])) << "no agent, a new connection";
  EXPECT_EQ(run_plugin("ADD", "c", a.netns.path()).output["code"], 11);
  restart();
  EXPECT_TRUE(pods->works() && host->works());
  EXPECT_EQ(node_->ask("endpoint.list", {}).value(), before);
  for (const Json& endpoint : before) EXPECT_TRUE(node_->programs->attached(endpoint["ifindex"]).value());
  EXPECT_EQ(check(a).exit_code, 0);
  const AttachedPod c = attach_pod("c");
  EXPECT_NE(c.addresses[0], a.addresses[0]);
  EXPECT_NE(c.addresses[0], b.addresses[0]);
  EXPECT_TRUE(connect_tcp(&a.netns, &c.netns, c.addresses[0]));
}

TEST_F(PodNetwork, ALostOrBrokenJournalLosesNoPod) {
  const AttachedPod a = attach_pod("a");
  const AttachedPod b = attach_pod("b");
  for (const char* content : {"", "{\"version\": 1, \"attachments\": 3}"}) {
    node_.reset();
    if (*content == '\0') {
      std::filesystem::remove(testkit::folder() + "/ipam.json");
    } else {
      std::ofstream(testkit::folder() + "/ipam.json") << content;
    }
    restart();
    EXPECT_TRUE(connect_tcp(&a.netns, &b.netns, b.addresses[0]));
    EXPECT_EQ(node_->ask("endpoint.list", {}).value().size(), 2U);
    EXPECT_NE(attach_pod("c").addresses[0], a.addresses[0]);
    EXPECT_EQ(run_plugin("DEL", "c", "").exit_code, 0);
  }
}

TEST_F(PodNetwork, WhatACrashLeftHalfMadeIsRemovedAndForeignDevicesAreNot) {
  AttachedPod whole = attach_pod("whole");
  node_.reset();
  auto socket = netlink::Socket::open().value();
  const PodNetns netns = PodNetns::make("half").value();
  const auto inside = netlink::open_netns(netns.path()).value();
  const auto make = [&](const std::string& name, const std::string& peer) {
    return socket
        .create_veth({.name = name,
                      .mac = {2, 0, 0, 0, 0, 1},
                      .peer_name = peer,
                      .peer_mac = {2, 0, 0, 0, 0, 2},
                      .peer_netns = inside.fd.get(),
                      .mtu = 1450})
        .value()
        .ifindex;
  };
  // Killed right after the device was born (journaled, unmarked), with its endpoint written; and one of whom only the
  // device is left.
  const Attachment half{.container = "half",
                        .ifname = "eth0",
                        .netns = netns.path(),
                        .netns_cookie = inside.cookie,
                        .addresses = {ip("10.1.0.77"), ip("fd00:1::77")}};
  const std::uint32_t half_index = make(device_name(half), "eth0");
  const Attachment orphan{.container = "orphan", .ifname = "eth0"};
  const std::uint32_t orphan_index = make(device_name(orphan), "eth1");
  ASSERT_TRUE(socket.set_alias(orphan_index, device_alias(orphan)));
  ASSERT_TRUE(socket.set_up(orphan_index));
  make("fl-foreign", "eth2");
  {
    const auto root = datapath::BpfRoot::open(testkit::bpffs() + "/fairlead").value();
    auto programs = datapath::BpfPodPrograms::load(root).value();
    ASSERT_TRUE(programs->upsert({half_index, inside.cookie, pod_mac(half), host_mac(half), half.addresses}));
  }
  sockets_.clients[inside.cookie] = half.addresses;
  const Journal journal(testkit::folder());
  JournalState state = journal.load().value();
  state.attachments.push_back(half);
  ASSERT_TRUE(journal.save(state));

  restart();
  EXPECT_EQ(node_->ask("endpoint.list", {}).value().size(), 1U);
  EXPECT_EQ(node_->programs->endpoints().size(), 1U);
  EXPECT_EQ(sockets_.clients.size(), 2U);
  EXPECT_TRUE(
      eventually([&] { return our_devices() == std::vector{device_name({.container = "whole", .ifname = "eth0"})}; }));
  const auto foreign = socket.find_link("fl-foreign");
  ASSERT_TRUE(foreign);
  EXPECT_TRUE(socket.delete_link(foreign->ifindex));
  EXPECT_TRUE(connect_tcp(nullptr, &whole.netns, whole.addresses[0]));
}

// Devices that go together are a group to the kernel: one that somebody else put into the same is not theirs.
TEST_F(PodNetwork, ManyDevicesAreDeletedAtOnceAndNobodyElses) {
  auto socket = netlink::Socket::open().value();
  const PodNetns netns = PodNetns::make("many").value();
  const auto inside = netlink::open_netns(netns.path()).value();
  for (const bool foreign : {false, true}) {
    std::vector<std::uint32_t> ours;
    for (int i = 0; i < 4; ++i) {
      ours.push_back(socket
                         .create_veth({.name = fmt::format("many{}", i),
                                       .mac = {2, 0, 0, 0, 0, 1},
                                       .peer_name = fmt::format("eth{}", i),
                                       .peer_mac = {2, 0, 0, 0, 0, 2},
                                       .peer_netns = inside.fd.get(),
                                       .mtu = 1450})
                         .value()
                         .ifindex);
    }
    ASSERT_TRUE(socket.delete_link(ours.back()));  // deleting what is gone succeeds
    if (foreign) {
      ASSERT_EQ(testkit::run_command("ip link add fl-foreign group 64030 type veth peer name fl-peer").code, 0);
    }
    const auto deleted = socket.delete_links(ours);
    EXPECT_TRUE(deleted) << deleted.error().message();
    for (int i = 0; i < 4; ++i) EXPECT_FALSE(socket.find_link(fmt::format("many{}", i))) << i;
    EXPECT_EQ(socket.find_link("fl-foreign").has_value(), foreign);
  }
  EXPECT_TRUE(socket.delete_link(socket.find_link("fl-foreign").value().ifindex));
}

TEST_F(PodNetwork, AFailedStepUndoesTheEarlierOnes) {
  const PodNetns netns = PodNetns::make("a").value();
  node_->watched->fail_attach = true;
  const PluginResult failed = run_plugin("ADD", "a", netns.path());
  EXPECT_EQ(failed.output["code"], 100);
  EXPECT_THAT(failed.output.value("msg", ""), HasSubstr("default/pod-a"));
  EXPECT_TRUE(node_->programs->endpoints().empty());
  EXPECT_EQ(sockets_.clients.size(), 1U);
  EXPECT_EQ(node_->ask("endpoint.list", {}).value().size(), 0U);
  node_->watched->fail_attach = false;
  EXPECT_EQ(run_plugin("ADD", "a", netns.path()).exit_code, 0);
}

TEST_F(PodNetwork, TwentyPodsAtOnce) {
  std::vector<PodNetns> namespaces;
  for (int i = 0; i < 20; ++i) namespaces.push_back(PodNetns::make(fmt::format("p{}", i)).value());
  std::vector<PluginResult> results(namespaces.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < namespaces.size(); ++i) {
      threads.emplace_back([&, i] { results[i] = run_plugin("ADD", fmt::format("p{}", i), namespaces[i].path()); });
    }
  }
  std::set<std::string> addresses;
  for (const PluginResult& result : results) {
    ASSERT_EQ(result.exit_code, 0) << result.output;
    addresses.insert(result.output["ips"][0]["address"]);
  }
  EXPECT_EQ(addresses.size(), results.size());
}

}  // namespace
}  // namespace fairlead::network
