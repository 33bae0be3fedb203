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

TEST(Attachment, TheResultSpeaksTheVersionThatWasAsked) {
  const Attachment attachment{.container = "a", .ifname = "eth0", .addresses = {IpAddress::parse("10.0.0.2").value()}};
  const Json old = cni_result(attachment, "0.4.0", 1450);
  EXPECT_EQ(old["cniVersion"], "0.4.0");
  EXPECT_EQ(old["ips"][0]["version"], "4");
  const Json middle = cni_result(attachment, "1.0.0", 1450);
  EXPECT_FALSE(middle["ips"][0].contains("version"));
  EXPECT_FALSE(middle["interfaces"][1].contains("mtu"));
  EXPECT_EQ(cni_result(attachment, "1.1.0", 1450)["interfaces"][1]["mtu"], 1450);
  EXPECT_TRUE(parse_cni_version({{"cniVersion", "0.3.1"}}));
  EXPECT_FALSE(parse_cni_version({{"cniVersion", "0.2.0"}}));
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
       .netns_cookie = 1ULL << 63,
       .addresses = {IpAddress::parse("10.0.0.2").value(), IpAddress::parse("fd00::2").value()}});
  state.resting[IpAddress::parse("10.0.0.9").value()] = WallTime(std::chrono::seconds(1700000000));
  state.cursors = {IpAddress::parse("10.0.0.2").value()};
  state.ranges = parse_cidr_list("10.0.0.0/24,fd00::/64").value();
  ASSERT_TRUE(journal.save(state, true));
  const JournalState read = journal.load().value();
  ASSERT_EQ(read.attachments.size(), 1U);
  EXPECT_EQ(to_json(read.attachments[0]), to_json(state.attachments[0]));
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
  EXPECT_EQ(conf["plugins"], Json::array({{{"type", "fairlead-cni"}, {"runDir", "/run/x"}}}));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(base + "/etc/net.d"), {}), 1) << "no leftovers";
  const auto missing = install_cni(base + "/bin", base + "/etc", "/run/x", base + "/nothing");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message(), HasSubstr("/nothing"));
}

}  // namespace
}  // namespace fairlead::network
