// SPDX-License-Identifier: Apache-2.0
#include "agent/network/attachment.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "agent/network/install_cni.h"
#include "agent/network/journal.h"

namespace fairlead::network {
namespace {

using testing::HasSubstr;

const Json kArgs{{"container", "0abc"},       {"ifname", "eth0"}, {"netns", "/run/netns/a"},
                 {"podNamespace", "default"}, {"podName", "web"}, {"podUid", "u"}};

Json with(const char* name, Json value) {
  Json args = kArgs;
  args[name] = std::move(value);
  return args;
}

IpAddress ip(const char* text) {
  return IpAddress::parse(text).value();
}

std::string folder() {
  std::string path = testing::TempDir() + "fairlead-XXXXXX";
  return mkdtemp(path.data());
}

TEST(Attachment, ReadsARequest) {
  const Attachment attachment = parse_attachment(kArgs, true).value();
  EXPECT_EQ(attachment.key(), "0abc/eth0");
  EXPECT_EQ(attachment.pod(), "default/web");
  EXPECT_EQ(attachment.netns, "/run/netns/a");
}

TEST(Attachment, RefusesWhatCouldNotBeADeviceOrAPath) {
  EXPECT_THAT(parse_attachment("text", true).error().what, HasSubstr("object"));
  for (const Json& container :
       {Json(""), Json("../x"), Json("-a"), Json("a b"), Json(7), Json(std::string(129, 'a'))}) {
    EXPECT_THAT(parse_attachment(with("container", container), true).error().what, HasSubstr("container")) << container;
  }
  for (const char* ifname : {"", "sixteen-letters-", "a/b", "a b", ".", "..", "a:b"}) {
    EXPECT_THAT(parse_attachment(with("ifname", ifname), true).error().what, HasSubstr("ifname")) << ifname;
  }
  for (const char* netns : {"", "run/netns"}) {
    EXPECT_THAT(parse_attachment(with("netns", netns), true).error().what, HasSubstr("netns")) << netns;
  }
  EXPECT_TRUE(parse_attachment(with("netns", ""), false)) << "DEL may come without";
}

TEST(Attachment, DevicesAndAddressesFollowFromTheKey) {
  const Attachment a{.container = "0abc", .ifname = "eth0"};
  const Attachment b{.container = "0abc", .ifname = "eth1"};
  EXPECT_EQ(device_name(a).size(), 15U);
  EXPECT_THAT(device_name(a), testing::MatchesRegex("fl[0-9a-f]+"));
  EXPECT_NE(device_name(a), device_name(b));
  EXPECT_NE(pod_mac(a), host_mac(a));
  EXPECT_EQ(pod_mac(a)[0] & 3, 2) << "locally administered, unicast";
  EXPECT_EQ(parse_device_alias(device_alias(b)).value().key(), b.key());
  for (const char* foreign : {"", "eth0", "fairlead", "fairlead/", "fairlead/x", "calico/a/b"}) {
    EXPECT_FALSE(parse_device_alias(foreign)) << foreign;
  }
}

TEST(Attachment, TheResultNamesBothEndsAndEachAddress) {
  const Attachment attachment{
      .container = "a", .ifname = "eth0", .netns = "/n", .addresses = {ip("10.0.0.2"), ip("fd00::2")}};
  EXPECT_EQ(cni_result(attachment, 1450),
            (Json{{"interfaces",
                   {{{"name", device_name(attachment)}, {"mac", to_string(host_mac(attachment))}, {"mtu", 1450}},
                    {{"name", "eth0"}, {"mac", to_string(pod_mac(attachment))}, {"mtu", 1450}, {"sandbox", "/n"}}}},
                  {"ips",
                   {{{"address", "10.0.0.2/32"}, {"gateway", "169.254.1.1"}, {"interface", 1}},
                    {{"address", "fd00::2/128"}, {"gateway", "fe80::1"}, {"interface", 1}}}},
                  {"routes", {{{"dst", "0.0.0.0/0"}, {"gw", "169.254.1.1"}}, {{"dst", "::/0"}, {"gw", "fe80::1"}}}}}));
}

TEST(Attachment, AnIdeaOfItIsComparedWithWhatItIs) {
  const Attachment attachment{
      .container = "a", .ifname = "eth0", .netns = "/n", .addresses = {ip("10.0.0.2"), ip("fd00::2")}};
  const Json right = cni_result(attachment, 1450);
  EXPECT_TRUE(compare(attachment, right));
  Json more = right;  // a later plugin of the chain added to it
  more["interfaces"].push_back({{"name", "net1"}, {"sandbox", "/n"}});
  more["ips"].push_back({{"address", "192.0.2.1/24"}, {"interface", 2}});
  more["routes"] = Json::array();
  EXPECT_TRUE(compare(attachment, more));
  const auto differs = [&](const char* path, Json value, const char* names) {
    Json other = right;
    other[Json::json_pointer(path)] = std::move(value);
    const auto compared = compare(attachment, other);
    EXPECT_FALSE(compared) << path;
    if (!compared) {
      EXPECT_THAT(compared.error().what, HasSubstr(names)) << path;
    }
  };
  differs("/interfaces/1/name", "eth1", "eth0");
  differs("/interfaces/1/sandbox", "/m", "eth0");
  differs("/interfaces/1/mac", "02:00:00:00:00:01", "02:00:00:00:00:01");
  differs("/interfaces", 7, "interfaces");
  differs("/ips/0/address", "10.0.0.3/32", "10.0.0.2");
  differs("/ips/1/interface", 0, "fd00::2");
  differs("/ips/2", Json{{"address", "10.0.0.9/32"}, {"interface", 1}}, "3 addresses");
  differs("/ips", Json::array(), "ips");
}

TEST(Attachment, WhatIsAskedForItAloneIsRead) {
  const Json asked{{"portMappings",
                    {{{"hostPort", 8080}, {"containerPort", 80}, {"protocol", "udp"}, {"hostIP", "10.0.0.1"}},
                     {{"hostPort", 0}, {"containerPort", 81}},
                     {{"hostPort", 53}, {"containerPort", 5353}}}},
                   {"bandwidth", {{"ingressRate", 1000000}, {"egressRate", 2000000}, {"egressBurst", 80000}}},
                   {"ips", {"10.0.0.7/24", "fd00::7"}},
                   {"mac", "0A:00:00:00:00:0f"},
                   {"aliases", {"left alone"}}};
  const Attachment attachment = parse_attachment(with("runtimeConfig", asked), true).value();
  const Capabilities& read = attachment.asked;
  ASSERT_EQ(read.port_mappings.size(), 2U) << "host port 0 is none";
  EXPECT_EQ(read.port_mappings[0].str(), "10.0.0.1:8080/UDP");
  EXPECT_EQ(read.port_mappings[1].str(), "*:53/TCP");
  EXPECT_EQ(read.bandwidth, (Bandwidth{.ingress_rate = 1000000, .egress_rate = 2000000, .egress_burst = 80000}));
  EXPECT_EQ(read.ips, (std::vector{ip("10.0.0.7"), ip("fd00::7")}));
  EXPECT_EQ(to_string(pod_mac(attachment)), "0a:00:00:00:00:0f");
  EXPECT_EQ(parse_capabilities(to_json(read)).value(), read);
  EXPECT_EQ(to_json(Capabilities{}), Json::object());
}

TEST(Attachment, WhatContainerdAsksForIsRead) {
  const Json asked{
      {"portMappings", {{{"HostPort", 8080}, {"ContainerPort", 80}, {"Protocol", "udp"}, {"HostIP", ""}}}},
      {"bandwidth", {{"IngressRate", 1000000}, {"IngressBurst", 4294967295U}, {"EgressRate", 0}, {"EgressBurst", 0}}}};
  const Capabilities read = parse_capabilities(asked).value();
  ASSERT_EQ(read.port_mappings.size(), 1U);
  EXPECT_EQ(read.port_mappings[0].str(), "*:8080/UDP");
  EXPECT_EQ(read.port_mappings[0].container_port, 80);
  EXPECT_EQ(read.bandwidth, (Bandwidth{.ingress_rate = 1000000, .ingress_burst = 4294967295U}));
}

TEST(Attachment, WhatCannotBeAskedIsRefusedByName) {
  const auto one = [](const char* name, Json value) { return Json{{name, std::move(value)}}; };
  const auto mapping = [&](Json value) { return one("portMappings", Json::array({std::move(value)})); };
  for (const auto& [asked, names] : {
           std::pair{Json("x"), "runtimeConfig"},
           {one("portMappings", 7), "portMappings"},
           {mapping(7), "portMappings[0]"},
           {mapping({{"hostPort", -1}, {"containerPort", 80}}), "portMappings[0].hostPort"},
           {mapping({{"hostPort", 65536}, {"containerPort", 80}}), "portMappings[0].hostPort"},
           {mapping({{"hostPort", "80"}, {"containerPort", 80}}), "portMappings[0].hostPort"},
           {mapping({{"hostPort", 80}}), "portMappings[0].containerPort"},
           {mapping({{"hostPort", 80}, {"containerPort", 80}, {"protocol", "icmp"}}), "portMappings[0].protocol"},
           {mapping({{"hostPort", 80}, {"containerPort", 80}, {"hostIP", "x"}}), "portMappings[0].hostIP"},
           {one("portMappings", {{{"hostPort", 80}, {"containerPort", 80}}, {{"hostPort", 80}, {"containerPort", 81}}}),
            "portMappings[1]"},
           {one("bandwidth", 7), "bandwidth"},
           {one("bandwidth", {{"ingressRate", -5}}), "bandwidth.ingressRate"},
           {one("bandwidth", {{"egressRate", 10}}), "bandwidth.egressRate"},
           {one("ips", "10.0.0.7"), "ips"},
           {one("ips", {7}), "ips[0]"},
           {one("ips", {"10.0.0.7", "x"}), "ips[1]"},
           {one("ips", {"10.0.0.7", "10.0.0.8"}), "ips[1]"},
           {one("mac", 7), "mac"},
           {one("mac", "0a:00:00:00:00"), "mac"},
           {one("mac", "01:00:00:00:00:01"), "mac"},
       }) {
    const auto refused = parse_attachment(with("runtimeConfig", asked), true);
    ASSERT_FALSE(refused) << asked;
    EXPECT_EQ(refused.error().code, Code::kInvalid) << asked;
    EXPECT_THAT(refused.error().what, HasSubstr(names)) << asked;
  }
}

TEST(Attachment, MappingsCollideWhereAPacketCouldBeForBoth) {
  const auto at = [](const char* address, std::uint16_t port, Protocol protocol = Protocol::kTcp) {
    PortMapping mapping{.host_port = port, .container_port = 1, .protocol = protocol};
    if (*address != '\0') mapping.host_ip = ip(address);
    return mapping;
  };
  EXPECT_TRUE(collide(at("", 80), at("10.0.0.1", 80)));
  EXPECT_TRUE(collide(at("0.0.0.0", 80), at("10.0.0.1", 80)));
  EXPECT_TRUE(collide(at("10.0.0.1", 80), at("10.0.0.1", 80)));
  EXPECT_FALSE(collide(at("10.0.0.2", 80), at("10.0.0.1", 80)));
  EXPECT_FALSE(collide(at("0.0.0.0", 80), at("::", 80)));
  EXPECT_FALSE(collide(at("", 80), at("", 81)));
  EXPECT_FALSE(collide(at("", 80), at("", 80, Protocol::kUdp)));
}

TEST(Attachment, AListOfWhatIsValidIsRead) {
  const Json args{{"network", "n"},
                  {"valid", {{{"containerID", "a"}, {"ifname", "eth0"}}, {{"containerID", "b"}, {"ifname", "eth1"}}}}};
  EXPECT_EQ(parse_garbage_list(args)->valid, (std::set<std::string>{"a/eth0", "b/eth1"}));
  for (const Json& bad :
       {Json(7), Json::object(), Json{{"valid", 7}}, Json{{"valid", {7}}}, Json{{"valid", {{{"containerID", "a"}}}}}}) {
    EXPECT_FALSE(parse_garbage_list(bad)) << bad;
  }
}

TEST(Journal, ComesBackAsItWas) {
  const Journal journal(folder());
  EXPECT_EQ(journal.load().error().code, Code::kNotFound);
  JournalState state;
  state.attachments.push_back(
      {.container = "a",
       .ifname = "eth0",
       .netns = "/n",
       .pod_ns = "default",
       .pod_name = "web",
       .pod_uid = "u",
       .network = "n",
       .asked = parse_capabilities({{"portMappings", {{{"hostPort", 80}, {"containerPort", 8080}}}}}).value(),
       .netns_cookie = 1ULL << 63,
       .addresses = {IpAddress::parse("10.0.0.2").value(), IpAddress::parse("fd00::2").value()},
       .added_ns = 1234});
  state.boot = "b";
  state.resting[IpAddress::parse("10.0.0.9").value()] = WallTime(std::chrono::seconds(1700000000));
  state.cursors = {IpAddress::parse("10.0.0.2").value()};
  state.ranges = parse_cidr_list("10.0.0.0/24,fd00::/64").value();
  ASSERT_TRUE(journal.save(state, true));
  const JournalState read = journal.load().value();
  ASSERT_EQ(read.attachments.size(), 1U);
  EXPECT_EQ(to_json(read.attachments[0]), to_json(state.attachments[0]));
  EXPECT_EQ(read.boot, "b");
  EXPECT_EQ(read.resting, state.resting);
  EXPECT_EQ(read.cursors, state.cursors);
  EXPECT_EQ(read.ranges, state.ranges);
}

TEST(Journal, GarbageIsRefusedByName) {
  const Journal journal(folder());
  for (const char* text : {"", "{", "[]", "7", R"({"version": 2})", R"({"version": "x"})",
                           R"({"version": 1, "attachments": [{}]})", R"({"version": 1, "attachments": {"a": 1}})",
                           R"({"version": 1, "attachments": [{"container": "a", "ifname": "eth0"}]})",
                           R"({"version": 1, "resting": {"x": 1}})", R"({"version": 1, "resting": {"10.0.0.1": "x"}})",
                           R"({"version": 1, "cursors": [1]})", R"({"version": 1, "ranges": ["10.0.0.0"]})"}) {
    std::ofstream(journal.path()) << text;
    const auto loaded = journal.load();
    ASSERT_FALSE(loaded) << text;
    EXPECT_EQ(loaded.error().code, Code::kInvalid) << text;
    EXPECT_THAT(loaded.error().what, HasSubstr("ipam.json")) << text;
  }
}

TEST(InstallCni, CopiesTheProgramThenNamesIt) {
  const std::string base = folder();
  std::ofstream(base + "/plugin") << "#!program";
  std::filesystem::permissions(base + "/plugin", std::filesystem::perms(0755));
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(install_cni(base + "/bin", base + "/etc/net.d", "/run/x", base + "/plugin"));
  }
  EXPECT_EQ(std::filesystem::status(base + "/bin/fairlead-cni").permissions(), std::filesystem::perms(0755));
  EXPECT_TRUE(std::filesystem::exists(base + "/bin/loopback"));
  std::ofstream(base + "/bin/loopback") << "another's";
  ASSERT_TRUE(install_cni(base + "/bin", base + "/etc/net.d", "/run/x", base + "/plugin"));
  EXPECT_EQ(std::filesystem::file_size(base + "/bin/loopback"), 9U) << "what is there stays";
  std::ifstream file(base + "/etc/net.d/05-fairlead.conflist");
  const Json conf = Json::parse(file);
  ASSERT_EQ(conf["plugins"].size(), 1U);
  EXPECT_EQ(conf["plugins"][0]["type"], "fairlead-cni");
  EXPECT_EQ(conf["plugins"][0]["runDir"], "/run/x");
  EXPECT_EQ(conf["plugins"][0]["capabilities"],
            (Json{{"portMappings", true}, {"bandwidth", true}, {"ips", true}, {"mac", true}}));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(base + "/etc/net.d"), {}), 1) << "no leftovers";
  const auto missing = install_cni(base + "/bin", base + "/etc", "/run/x", base + "/nothing");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message(), HasSubstr("/nothing"));
}

}  // namespace
}  // namespace fairlead::network
