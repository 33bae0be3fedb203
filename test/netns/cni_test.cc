// SPDX-License-Identifier: Apache-2.0
// The CNI plugin as container runtimes use and misuse it: every version and command, chains with other plugins, an
// agent that is away, full disks, calls at once and out of order. One node, its agent in this process, the real plugin.
#include <gmock/gmock.h>
#include <sys/mount.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>

#include "agent/base/cni_spool.h"
#include "agent/netlink/netns.h"
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

class Cni : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto entered = testkit::enter_node_namespace("cni");
    ASSERT_TRUE(entered) << entered.error().message();
    auto socket = netlink::Socket::open().value();
    const std::uint32_t loopback = socket.find_link("lo").value().ifindex;
    ASSERT_TRUE(socket.add_address(loopback, ip("10.0.0.1")));
    ASSERT_TRUE(socket.add_address(loopback, ip("fd00:ffff::1")));
  }

  void SetUp() override { restart(); }

  // Each test leaves an empty node.
  void TearDown() override {
    for (const Json& endpoint : endpoints()) EXPECT_TRUE(node_->ask("cni.del", endpoint));
    EXPECT_TRUE(node_->programs->endpoints().empty());
    EXPECT_EQ(sockets_.clients.size(), 1U);
    node_.reset();
    std::filesystem::remove(testkit::folder() + "/ipam.json");
  }

  void restart(const std::string& cidrs = kDual, bool waits_for_pods = false, const std::string& state_dir = {}) {
    node_.reset();
    node_ = std::make_unique<Node>(cidrs, sockets_, waits_for_pods, state_dir);
    ASSERT_TRUE(node_->started) << node_->started.error().message();
  }

  std::vector<Json> endpoints() { return node_->ask("endpoint.list", {}).value(); }

  static PodNetns make(const std::string& name) { return PodNetns::make(name).value(); }

  // The test's configuration with these members besides.
  static std::string configuration(const Json& members) {
    Json json = plugin_configuration();
    json.update(members);
    return json.dump();
  }
  static PluginResult ask_for(const std::string& container, const PodNetns& netns, const Json& runtime_config) {
    return run_plugin("ADD", container, netns.path(), configuration({{"runtimeConfig", runtime_config}}));
  }
  static PluginResult gc(const std::vector<std::string>& valid, const std::string& network = "fairlead") {
    Json list = Json::array();
    for (const std::string& container : valid) list.push_back({{"containerID", container}, {"ifname", "eth0"}});
    return run_plugin("GC", "", "",
                      configuration({{"cniVersion", "1.1.0"}, {"name", network}, {"cni.dev/valid-attachments", list}}));
  }
  static PluginResult status() { return run_plugin("STATUS", "", "", configuration({{"cniVersion", "1.1.0"}})); }

  FakeSocketClients sockets_;
  std::unique_ptr<Node> node_;
};

TEST_F(Cni, EveryVersionGoesAllTheWay) {
  for (const char* version : {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}) {
    const PodNetns netns = make("a");
    const PluginResult added = run_plugin("ADD", "a", netns.path(), configuration({{"cniVersion", version}}));
    ASSERT_EQ(added.exit_code, 0) << version << added.output;
    EXPECT_EQ(added.output["cniVersion"], version);
    const Json with_result{{"cniVersion", version}, {"prevResult", added.output}};
    const PluginResult checked = run_plugin("CHECK", "a", netns.path(), configuration(with_result));
    EXPECT_EQ(checked.exit_code == 0, std::string(version) >= "0.4.0") << version << checked.output;
    EXPECT_EQ(run_plugin("DEL", "a", netns.path(), configuration(with_result)).exit_code, 0) << version;
    EXPECT_TRUE(endpoints().empty());
  }
  EXPECT_EQ(run_plugin("VERSION", "", "").output["supportedVersions"],
            (Json{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}));
}

TEST_F(Cni, CheckComparesWithWhatTheRuntimeRemembers) {
  const PodNetns netns = make("a");
  const Json result = run_plugin("ADD", "a", netns.path()).output;
  const auto check = [&](const Json& previous) {
    return run_plugin("CHECK", "a", netns.path(), configuration({{"prevResult", previous}}));
  };
  EXPECT_EQ(check(result).exit_code, 0);
  Json other = result;
  other["ips"][0]["address"] = "10.1.0.99/32";
  const PluginResult differs = check(other);
  EXPECT_EQ(differs.output["code"], 100);
  EXPECT_THAT(differs.output.value("msg", ""), HasSubstr("prevResult.ips"));
  const PodNetns elsewhere = make("b");
  EXPECT_EQ(run_plugin("CHECK", "a", elsewhere.path(), configuration({{"prevResult", result}})).output["code"], 100);
}

TEST_F(Cni, BehindAnotherPluginItsResultIsCarriedOn) {
  const PodNetns netns = make("a");
  const Json before{{"cniVersion", "1.0.0"},
                    {"interfaces", {{{"name", "net1"}, {"sandbox", netns.path()}}}},
                    {"ips", {{{"address", "192.0.2.5/24"}, {"interface", 0}}}}};
  const PluginResult added = run_plugin(
      "ADD", "a", netns.path(), configuration({{"prevResult", before}, {"dns", {{"nameservers", {"192.0.2.53"}}}}}));
  ASSERT_EQ(added.exit_code, 0) << added.output;
  EXPECT_EQ(added.output["interfaces"][0], before["interfaces"][0]);
  EXPECT_EQ(added.output["interfaces"].size(), 3U);
  EXPECT_EQ(added.output["ips"][1]["interface"], 2);
  EXPECT_EQ(added.output["dns"]["nameservers"], Json{"192.0.2.53"});
  EXPECT_EQ(run_plugin("CHECK", "a", netns.path(), configuration({{"prevResult", added.output}})).exit_code, 0);
  const PluginResult broken = run_plugin("ADD", "b", netns.path(), configuration({{"prevResult", {{"ips", 7}}}}));
  EXPECT_EQ(broken.output["code"], 6);
  EXPECT_EQ(endpoints().size(), 1U) << "what cannot be answered is not begun";
}

// Debian's tuning and portmap behind us, as a runtime would call them.
TEST_F(Cni, OthersChainBehindIt) {
  const PodNetns netns = make("a");
  const Json ours = run_plugin("ADD", "a", netns.path()).output;
  const auto other = [&](const std::string& command, const std::string& type, Json members) {
    Json json{{"cniVersion", "1.0.0"}, {"name", "fairlead"}, {"type", type}, {"prevResult", ours}};
    json.update(members);
    const std::string input = testkit::folder() + "/other.stdin";
    std::ofstream(input) << json.dump();
    return testkit::run_command(fmt::format(
        "CNI_COMMAND={} CNI_CONTAINERID=a CNI_NETNS={} CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni /usr/lib/cni/{} <{}",
        command, netns.path(), type, input));
  };
  const auto tuned = other("ADD", "tuning", {{"sysctl", {{"net.core.somaxconn", "500"}}}});
  ASSERT_EQ(tuned.code, 0) << tuned.output;
  const Json result = Json::parse(tuned.output);
  EXPECT_EQ(result["ips"], ours["ips"]);
  EXPECT_EQ(result["interfaces"], ours["interfaces"]);
  EXPECT_EQ(other("ADD", "portmap", {{"runtimeConfig", {{"portMappings", Json::array()}}}}).code, 0);
  EXPECT_EQ(run_plugin("CHECK", "a", netns.path(), configuration({{"prevResult", result}})).exit_code, 0);
  EXPECT_EQ(other("DEL", "tuning", Json::object()).code, 0);
}

TEST_F(Cni, StatusSaysWhetherAnAddCanBeServed) {
  EXPECT_EQ(status().exit_code, 0);
  EXPECT_EQ(run_plugin("STATUS", "", "").output["code"], 1) << "it came with 1.1.0";
  restart("10.3.0.0/30");
  const PodNetns netns = make("a");
  ASSERT_EQ(run_plugin("ADD", "a", netns.path()).exit_code, 0);
  const PluginResult full = status();
  EXPECT_EQ(full.output["code"], 50);
  EXPECT_THAT(full.output.value("msg", ""), HasSubstr("10.3.0.0/30"));
  node_.reset();
  EXPECT_EQ(status().output["code"], 50) << "no agent";
  restart();
}

TEST_F(Cni, StatusTellsOfPodsThatAreCutOff) {
  const PodNetns netns = make("a");
  ASSERT_EQ(run_plugin("ADD", "a", netns.path()).exit_code, 0);
  node_.reset();
  node_ = std::make_unique<Node>(kDual, sockets_, false, std::string(), /*fail_attach=*/true);
  ASSERT_TRUE(node_->started);
  const PluginResult limited = status();
  EXPECT_EQ(limited.output["code"], 51);
  EXPECT_THAT(limited.output.value("msg", ""), HasSubstr("a/eth0"));
}

TEST_F(Cni, GcLeavesWhatIsNamedAndWhatIsAnothersNetwork) {
  std::vector<PodNetns> all;
  for (const char* name : {"a", "b", "c"}) {
    all.push_back(make(name));
    ASSERT_EQ(run_plugin("ADD", name, all.back().path()).exit_code, 0);
  }
  all.push_back(make("d"));
  ASSERT_EQ(run_plugin("ADD", "d", all.back().path(), configuration({{"name", "other"}})).exit_code, 0);
  EXPECT_EQ(gc({"a", "unknown"}).exit_code, 0);
  std::set<std::string> left;
  for (const Json& endpoint : endpoints()) left.insert(endpoint["container"]);
  EXPECT_EQ(left, (std::set<std::string>{"a", "d"}));
  EXPECT_EQ(gc({}, "other").exit_code, 0);
  EXPECT_EQ(endpoints().size(), 1U);
  EXPECT_EQ(gc({"a"}).exit_code, 0);
  EXPECT_EQ(endpoints().size(), 1U);
}

TEST_F(Cni, WithoutAnAgentAddWaitsAndDelIsRememberedUntilOneIsBack) {
  const PodNetns netns = make("a");
  const PodNetns other = make("b");
  ASSERT_EQ(run_plugin("ADD", "a", netns.path()).exit_code, 0);
  ASSERT_EQ(run_plugin("ADD", "b", other.path()).exit_code, 0);
  node_.reset();
  EXPECT_EQ(run_plugin("ADD", "c", netns.path()).output["code"], 11);
  for (int twice = 0; twice < 2; ++twice) EXPECT_EQ(run_plugin("DEL", "a", netns.path()).exit_code, 0);
  EXPECT_EQ(run_plugin("DEL", "never-was", "").exit_code, 0);
  restart();
  EXPECT_TRUE(eventually([&] { return endpoints().size() == 1; }));
  EXPECT_EQ(endpoints()[0]["container"], "b");
  EXPECT_TRUE(read_spool(testkit::folder())->dels.empty());
}

TEST_F(Cni, ADelIsCarriedOutInItsPlaceAmongOthers) {
  const PodNetns netns = make("a");
  const Json first = run_plugin("ADD", "a", netns.path()).output;
  // A DEL of the time in between, found by an agent that runs: the next request comes after it.
  ASSERT_TRUE(spool_del(testkit::folder(), "a", "eth0", boot_time_ns()));
  const PluginResult second = run_plugin("ADD", "a", netns.path());
  ASSERT_EQ(second.exit_code, 0) << second.output;
  EXPECT_NE(second.output["ips"], first["ips"]) << "it is another attachment";
  // One that is older than the attachment is another one's.
  ASSERT_TRUE(spool_del(testkit::folder(), "a", "eth0", 1));
  EXPECT_EQ(status().exit_code, 0);
  EXPECT_EQ(endpoints().size(), 1U);
  EXPECT_TRUE(read_spool(testkit::folder())->dels.empty());
  EXPECT_TRUE(read_spool(testkit::folder())->unreadable.empty());
}

TEST_F(Cni, ADelEndsAnAddThatStillWaits) {
  restart(kDual, true);
  const PodNetns netns = make("a");
  Loop loop;
  std::optional<Result<Json>> added;
  const Json args{{"container", "a"}, {"ifname", "eth0"}, {"netns", netns.path()}, {"podUid", "uid"}};
  node_->requests().call(loop, {"cni.add", args}, std::chrono::minutes(1), [&](Result<Json> answer) {
    added = std::move(answer);
    loop.stop();
  });
  loop.poll();  // it is asked now
  ASSERT_TRUE(node_->ask("cni.del", args));
  node_->pod_table.writer("api").upsert(
      "uid", model::Pod{.id = {"default", "pod-a", "uid"}, .object = nullptr, .source = "api"});
  loop.run();
  ASSERT_TRUE(added);
  ASSERT_FALSE(*added) << "the DEL was the runtime's last word";
  EXPECT_EQ(added->error().code, Code::kCancelled);
  EXPECT_TRUE(endpoints().empty());
}

TEST_F(Cni, ADelWaitsForAnAddThatIsBeingMade) {
  const PodNetns netns = make("a");
  const Json args{{"container", "a"}, {"ifname", "eth0"}, {"netns", netns.path()}};
  Loop loop;
  std::vector<std::string> answered;
  const auto ask = [&](const std::string& op) {
    node_->requests().call(loop, {op, args}, std::chrono::minutes(1), [&, op](const Result<Json>& answer) {
      answered.push_back(op + (answer ? "" : ": " + answer.error().message()));
      if (answered.size() == 3) loop.stop();
    });
  };
  for (const char* op : {"cni.add", "cni.del", "cni.del"}) ask(op);
  loop.run();
  EXPECT_EQ(answered, (std::vector<std::string>{"cni.add", "cni.del", "cni.del"}));
  EXPECT_TRUE(endpoints().empty());
}

TEST_F(Cni, AFullDiskIsSaidAndHarmsNobody) {
  const std::string disk = testkit::folder() + "/disk";
  std::filesystem::create_directories(disk);
  ASSERT_EQ(mount("full", disk.c_str(), "tmpfs", 0, "size=256k"), 0);
  restart(kDual, false, disk);
  const PodNetns netns = make("a");
  const auto fill = [&] {
    std::ofstream filler(disk + "/filler");
    const std::string block(4096, 'x');
    while (filler.write(block.data(), 4096).flush()) {
    }
  };
  ASSERT_EQ(run_plugin("ADD", "z", netns.path()).exit_code, 0);
  fill();
  const PluginResult refused = run_plugin("ADD", "a", make("b").path());
  EXPECT_EQ(refused.output["code"], 11);
  EXPECT_THAT(refused.output.value("msg", ""), HasSubstr("No space left"));
  EXPECT_EQ(endpoints().size(), 1U);
  EXPECT_EQ(run_plugin("DEL", "z", netns.path()).exit_code, 0) << "a DEL needs no disk";
  // The plugin's own record.
  const PluginResult del = run_plugin("DEL", "a", "", configuration({{"runDir", disk}}));
  EXPECT_EQ(del.output["code"], 5);
  EXPECT_THAT(del.output.value("msg", ""), HasSubstr("No space left"));
  std::filesystem::remove(disk + "/filler");
  EXPECT_EQ(run_plugin("DEL", "a", "", configuration({{"runDir", disk}})).exit_code, 0);
  const PodNetns late = make("c");
  EXPECT_EQ(run_plugin("ADD", "a", late.path()).exit_code, 0);
  EXPECT_EQ(run_plugin("DEL", "a", late.path()).exit_code, 0);
  restart();
  EXPECT_EQ(umount2(disk.c_str(), MNT_DETACH), 0);
}

TEST_F(Cni, CertainAddressesAndAMacAreGivenWhereTheyAreFree) {
  const PodNetns netns = make("a");
  const PluginResult added =
      ask_for("a", netns, {{"ips", {"10.1.0.77", "fd00:1::77/64"}}, {"mac", "0a:58:00:00:00:77"}});
  ASSERT_EQ(added.exit_code, 0) << added.output;
  EXPECT_EQ(added.output["ips"][0]["address"], "10.1.0.77/32");
  EXPECT_EQ(added.output["ips"][1]["address"], "fd00:1::77/128");
  EXPECT_EQ(added.output["interfaces"][1]["mac"], "0a:58:00:00:00:77");
  EXPECT_TRUE(connect_tcp(nullptr, &netns, ip("10.1.0.77"))) << "the pod may send from what it was given";
  EXPECT_TRUE(connect_tcp(&netns, nullptr, ip("fd00:ffff::1")));
  restart();
  EXPECT_EQ(endpoints()[0]["mac"], "0a:58:00:00:00:77");
  EXPECT_EQ(endpoints()[0]["runtimeConfig"]["ips"], (Json{"10.1.0.77", "fd00:1::77"}));
  const PodNetns other = make("b");
  for (const auto& [asked, names] : {std::pair{Json{{"ips", {"10.1.0.77"}}}, "10.1.0.77"},
                                     {Json{{"ips", {"10.9.0.1"}}}, "10.9.0.1"},
                                     {Json{{"ips", {"nonsense"}}}, "runtimeConfig.ips[0]"},
                                     {Json{{"mac", "ff:ff:ff:ff:ff:ff"}}, "runtimeConfig.mac"}}) {
    const PluginResult refused = ask_for("b", other, asked);
    EXPECT_EQ(refused.output["code"], 7) << refused.output;
    EXPECT_THAT(refused.output.value("msg", ""), HasSubstr(names));
  }
  EXPECT_EQ(endpoints().size(), 1U);
}

TEST_F(Cni, PortMappingsBecomeRowsAndBelongToOnePod) {
  const PodNetns a = make("a");
  const auto port = [](int host, const char* address = "") {
    Json mapping{{"hostPort", host}, {"containerPort", 80}, {"protocol", "tcp"}};
    if (*address != '\0') mapping["hostIP"] = address;
    return Json{{"portMappings", Json::array({mapping})}};
  };
  ASSERT_EQ(ask_for("a", a, port(8080)).exit_code, 0);
  ASSERT_EQ(node_->host_ports.size(), 1U);
  ASSERT_TRUE(node_->host_ports.get("a/eth0:*:8080/TCP"));
  const model::HostPort row = *node_->host_ports.get("a/eth0:*:8080/TCP");
  EXPECT_EQ(row.pod.key(), "default/pod-a");
  EXPECT_EQ(row.host_port, 8080);
  EXPECT_EQ(row.container_port, 80);
  EXPECT_EQ(row.host_address, std::nullopt);
  EXPECT_EQ(row.pod_addresses.size(), 2U);
  const PodNetns b = make("b");
  const PluginResult refused = ask_for("b", b, port(8080, "10.0.0.1"));
  EXPECT_EQ(refused.output["code"], 7);
  EXPECT_THAT(refused.output.value("msg", ""), HasSubstr("default/pod-a"));
  node_->service_table.writer("api").upsert("default/web", model::Service{.id = {"default", "web", "u"},
                                                                          .type = model::ServiceType::kNodePort,
                                                                          .ports = {{.port = 80, .node_port = 30080}}});
  EXPECT_TRUE(eventually([&] {
    const PluginResult taken = ask_for("b", b, port(30080));
    if (taken.exit_code == 0) run_plugin("DEL", "b", b.path());
    return taken.output.value("msg", "").contains("Service default/web");
  }));
  ASSERT_EQ(ask_for("b", b, port(8081, "0.0.0.0")).exit_code, 0);
  const auto every_v4 = node_->host_ports.get("b/eth0:0.0.0.0:8081/TCP");
  ASSERT_TRUE(every_v4);
  ASSERT_EQ(every_v4->pod_addresses.size(), 1U);
  EXPECT_TRUE(every_v4->pod_addresses[0].is_v4());
  EXPECT_EQ(every_v4->host_address, std::nullopt);
  restart();
  EXPECT_EQ(node_->host_ports.size(), 2U) << "they are remembered";
  EXPECT_EQ(run_plugin("DEL", "a", a.path()).exit_code, 0);
  EXPECT_EQ(node_->host_ports.size(), 1U);
  ASSERT_EQ(ask_for("a", a, port(8080)).exit_code, 0) << "free again";
}

// After a reboot devices, maps and namespaces are gone; the journal is not.
TEST_F(Cni, AfterARebootAddressesComeFreeOnceTheyHaveRested) {
  restart("10.3.0.0/29");  // five addresses
  {
    std::vector<PodNetns> pods;
    for (const char* name : {"a", "b", "c", "d", "e"}) {
      pods.push_back(make(name));
      ASSERT_EQ(run_plugin("ADD", name, pods.back().path()).exit_code, 0);
    }
    node_.reset();
  }  // the devices go with the pods' namespaces
  ASSERT_TRUE(eventually([] {
    const std::vector<netlink::Link> links = netlink::Socket::open().value().links().value();
    return std::ranges::none_of(links, [](const netlink::Link& link) { return link.name.starts_with("fl"); });
  }));
  const std::string journal = testkit::folder() + "/ipam.json";
  std::ifstream file(journal);
  Json json = Json::parse(file);
  EXPECT_EQ(json["attachments"].size(), 5U);
  json["boot"] = "an earlier one";
  std::ofstream(journal) << json;
  restart("10.3.0.0/29");
  EXPECT_TRUE(endpoints().empty());
  const PodNetns netns = make("f");
  EXPECT_EQ(run_plugin("ADD", "f", netns.path()).output["code"], 11) << "they rest";
  node_->clock.advance(std::chrono::seconds(31));
  EXPECT_EQ(run_plugin("ADD", "f", netns.path()).exit_code, 0);
}

TEST_F(Cni, AnInterfaceOfThatNameIsAnError) {
  const PodNetns netns = make("a");
  ASSERT_EQ(run_plugin("ADD", "a", netns.path()).exit_code, 0);
  const PluginResult second = run_plugin("ADD", "b", netns.path());
  EXPECT_EQ(second.output["code"], 4);
  EXPECT_THAT(second.output.value("msg", ""), HasSubstr("CNI_IFNAME"));
  EXPECT_EQ(endpoints().size(), 1U);
}

TEST_F(Cni, GarbageOnStandardInputIsRefusedByEveryCommand) {
  for (const char* command : {"ADD", "DEL", "CHECK", "STATUS", "GC"}) {
    for (const std::string& text : {std::string("garbage"), std::string("\xff\xfe{}"), std::string("{\"cniVersion\":"),
                                    std::string(100'000, '['), std::string("7")}) {
      const PluginResult refused = run_plugin(command, "a", "/x", text);
      EXPECT_EQ(refused.exit_code, 1) << command;
      EXPECT_EQ(refused.output.value("code", 0), 6) << command << refused.output;
    }
  }
  EXPECT_EQ(run_plugin("ADD", "a", "/x", std::string(2U << 20, ' ')).output.value("code", 0), 6);
  EXPECT_TRUE(endpoints().empty());
}

// Fifty pods come and go at once, each asked for more than once and in any order; what is left is what was asked last.
TEST_F(Cni, FiftyAtOnceRepeatedAndOutOfOrder) {
  constexpr std::size_t kPods = 50;
  std::vector<PodNetns> namespaces;
  for (std::size_t i = 0; i < kPods; ++i) namespaces.push_back(make(fmt::format("p{}", i)));
  std::vector<PluginResult> last(kPods);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < kPods; ++i) {
      threads.emplace_back([&, i] {
        const std::string name = fmt::format("p{}", i);
        const std::string& path = namespaces[i].path();
        run_plugin("DEL", name, path);
        run_plugin("ADD", name, path);
        run_plugin("ADD", name, path);
        if (i % 2 == 0) run_plugin("DEL", name, "");
        last[i] = i % 4 == 0 ? run_plugin("ADD", name, path) : run_plugin("DEL", name, path);
      });
    }
  }
  std::set<std::string> there;
  std::set<Json> addresses;
  for (const Json& endpoint : endpoints()) {
    there.insert(endpoint["container"]);
    addresses.insert(endpoint["addresses"][0]);
  }
  EXPECT_EQ(addresses.size(), there.size()) << "each has its own";
  for (std::size_t i = 0; i < kPods; ++i) {
    EXPECT_EQ(last[i].exit_code, 0) << last[i].output;
    EXPECT_EQ(there.contains(fmt::format("p{}", i)), i % 4 == 0) << i;
  }
}

}  // namespace
}  // namespace fairlead::network
