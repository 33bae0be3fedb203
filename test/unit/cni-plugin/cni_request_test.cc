// SPDX-License-Identifier: Apache-2.0
#include "cni-plugin/cni_request.h"

#include <gtest/gtest.h>

#include <map>

namespace fairlead::cni {
namespace {

using Variables = std::map<std::string, std::string>;

const Variables kAdd{{"CNI_COMMAND", "ADD"},
                     {"CNI_CONTAINERID", "abc"},
                     {"CNI_NETNS", "/run/netns/a"},
                     {"CNI_IFNAME", "eth0"},
                     {"CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;MINE=x;K8S_POD_UID=u=1"}};
constexpr const char* kConfiguration =
    R"({"cniVersion": "1.0.0", "name": "x", "type": "fairlead-cni", "runDir": "/run/f"})";

std::expected<CniRequest, CniError> parse(Variables variables, const std::string& configuration = kConfiguration) {
  return parse_request([&](const char* name) { return variables[name]; }, configuration);
}

Variables with(const char* name, const char* value) {
  Variables variables = kAdd;
  variables[name] = value;
  return variables;
}

Variables as(const char* command) {
  return with("CNI_COMMAND", command);
}

// The configuration with one more member.
std::string and_also(const char* name, const Json& value, const char* version = "1.0.0") {
  Json json = Json::parse(kConfiguration);
  json["cniVersion"] = version;
  json[name] = value;
  return json.dump();
}

TEST(CniRequest, AddBecomesOneCall) {
  const auto request = parse(kAdd).value();
  EXPECT_EQ(request.op, "cni.add");
  EXPECT_EQ(request.socket(), "/run/f/agent.sock");
  EXPECT_EQ(request.args, (Json{{"container", "abc"},
                                {"ifname", "eth0"},
                                {"netns", "/run/netns/a"},
                                {"network", "x"},
                                {"podNamespace", "default"},
                                {"podName", "web"},
                                {"podUid", "u=1"}}));
}

TEST(CniRequest, OtherCommandsBecomeTheirOwn) {
  const auto del = parse(as("DEL")).value();
  EXPECT_EQ(del.op, "cni.del");
  EXPECT_EQ(del.args, (Json{{"container", "abc"}, {"ifname", "eth0"}, {"netns", "/run/netns/a"}, {"network", "x"}}));
  const Json previous{{"ips", Json::array()}};
  const auto check = parse(as("CHECK"), and_also("prevResult", previous)).value();
  EXPECT_EQ(check.op, "cni.check");
  EXPECT_EQ(check.args["prevResult"], previous);
  EXPECT_EQ(parse(as("CHECK")).error().code, CniCode::kInvalidConfig) << "CHECK compares with prevResult";
  const auto status = parse({{"CNI_COMMAND", "STATUS"}}, and_also("mtu", 1, "1.1.0")).value();
  EXPECT_EQ(status.op, "cni.status");
  const Json valid{{{"containerID", "a"}, {"ifname", "eth0"}}};
  const auto gc = parse({{"CNI_COMMAND", "GC"}}, and_also("cni.dev/valid-attachments", valid, "1.1.0")).value();
  EXPECT_EQ(gc.op, "cni.gc");
  EXPECT_EQ(gc.args, (Json{{"network", "x"}, {"valid", valid}}));
  EXPECT_EQ(parse({{"CNI_COMMAND", "GC"}}, and_also("mtu", 1, "1.1.0"))->args["valid"], Json::array());
  EXPECT_EQ(parse({{"CNI_COMMAND", "GC"}}, and_also("cni.dev/valid-attachments", 7, "1.1.0")).error().code,
            CniCode::kInvalidConfig);
}

TEST(CniRequest, ACommandExistsSinceItsVersion) {
  for (const auto& [command, version, known] : {std::tuple{"CHECK", "0.3.1", false},
                                                {"CHECK", "0.4.0", true},
                                                {"STATUS", "1.0.0", false},
                                                {"STATUS", "1.1.0", true},
                                                {"GC", "1.0.0", false},
                                                {"GC", "1.1.0", true},
                                                {"ADD", "0.3.1", true},
                                                {"DEL", "0.3.1", true}}) {
    const auto request = parse(as(command), and_also("prevResult", Json::object(), version));
    EXPECT_EQ(request.has_value(), known) << command << ' ' << version;
    if (!request) {
      EXPECT_EQ(request.error().code, CniCode::kIncompatibleVersion) << command;
    }
  }
}

TEST(CniRequest, DelNeedsNoNamespaceAndRefusesNothingThatItDoesNotNeed) {
  Variables variables = as("DEL");
  variables["CNI_NETNS"] = "";
  variables["CNI_ARGS"] = "odd";
  EXPECT_EQ(parse(variables, and_also("runtimeConfig", 7)).value().op, "cni.del");
  variables["CNI_COMMAND"] = "CHECK";
  EXPECT_EQ(parse(variables).error().code, CniCode::kInvalidEnvironment);
}

TEST(CniRequest, BadEnvironmentsAreNamed) {
  for (const char* name : {"CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}) {
    for (const char* value : {"", "/", "..", "a b"}) {
      if (name == std::string("CNI_NETNS") && *value == '/') continue;
      const auto refused = parse(with(name, value));
      ASSERT_FALSE(refused) << name << value;
      EXPECT_EQ(refused.error().code, CniCode::kInvalidEnvironment) << name;
      EXPECT_NE(refused.error().message.find(name), std::string::npos) << name;
    }
  }
  EXPECT_EQ(parse(as("add")).error().code, CniCode::kInvalidEnvironment);
}

TEST(CniRequest, ArgumentsAreKnownOrSaidToBeLeftAlone) {
  for (const auto& [args, accepted] : {std::pair{"", true},
                                       {";;", true},
                                       {"K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=b", true},
                                       {"MINE=1", false},
                                       {"MINE=1;IgnoreUnknown=0", false},
                                       {"MINE=1;IgnoreUnknown=1", true},
                                       {"IgnoreUnknown=true;MINE=", true},
                                       {"odd", false},
                                       {"=x;IgnoreUnknown=1", false}}) {
    const auto request = parse(with("CNI_ARGS", args));
    EXPECT_EQ(request.has_value(), accepted) << args;
    if (!request) {
      EXPECT_NE(request.error().message.find("CNI_ARGS"), std::string::npos) << args;
    }
  }
}

TEST(CniRequest, WhatIsAskedForOneAttachmentIsPassedOn) {
  const Json asked{{"portMappings", Json::array()}, {"ips", {"10.0.0.7"}}, {"mac", "0a:00:00:00:00:01"}};
  Json more = asked;
  more["aliases"] = {"x"};
  EXPECT_EQ(parse(kAdd, and_also("runtimeConfig", more))->args["runtimeConfig"], asked);
  EXPECT_EQ(parse(kAdd, and_also("runtimeConfig", 7)).error().code, CniCode::kInvalidConfig);
  // Older conventions, each weaker than the one before.
  const Json by_args{{"cni", {{"ips", {"10.0.0.8"}}}}};
  Json both = Json::parse(and_also("args", by_args));
  EXPECT_EQ(parse(with("CNI_ARGS", "IP=10.0.0.9"), both.dump())->args["runtimeConfig"]["ips"], Json{"10.0.0.8"});
  both["runtimeConfig"] = asked;
  EXPECT_EQ(parse(with("CNI_ARGS", "IP=10.0.0.9"), both.dump())->args["runtimeConfig"]["ips"], Json{"10.0.0.7"});
  EXPECT_EQ(parse(with("CNI_ARGS", "IP=10.0.0.9;MAC=0a:00:00:00:00:02"))->args["runtimeConfig"],
            (Json{{"ips", {"10.0.0.9"}}, {"mac", "0a:00:00:00:00:02"}}));
}

TEST(CniRequest, BadConfigurationsHaveTheSpecsCodes) {
  for (const auto& [text, code] :
       {std::pair{"", CniCode::kDecode},
        {"{", CniCode::kDecode},
        {"[]", CniCode::kDecode},
        {"null", CniCode::kDecode},
        {"{}", CniCode::kInvalidConfig},
        {R"({"cniVersion": "1.0.0", "runDir": "/x"})", CniCode::kInvalidConfig},
        {R"({"cniVersion": "1.0.0", "name": "-n", "runDir": "/x"})", CniCode::kInvalidConfig},
        {R"({"cniVersion": "1.0.0", "name": "n"})", CniCode::kInvalidConfig},
        {R"({"cniVersion": 1, "name": "n", "runDir": "/x"})", CniCode::kInvalidConfig},
        {R"({"cniVersion": "1.0.0", "name": "n", "runDir": "x"})", CniCode::kInvalidConfig},
        {R"({"cniVersion": "1.0.0", "name": "n", "runDir": "/x", "prevResult": 7})", CniCode::kInvalidConfig},
        {R"({"cniVersion": "1.0.0", "name": "n", "runDir": "/x", "dns": []})", CniCode::kInvalidConfig},
        {R"({"cniVersion": "0.2.0", "name": "n", "runDir": "/x"})", CniCode::kIncompatibleVersion}}) {
    const auto refused = parse(kAdd, text);
    ASSERT_FALSE(refused) << text;
    EXPECT_EQ(refused.error().code, code) << text;
  }
}

TEST(CniRequest, AsLoopbackItNeedsNoAgent) {
  const auto request = parse(kAdd, R"({"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"})").value();
  EXPECT_TRUE(request.loopback);
  EXPECT_TRUE(request.op.empty());
  EXPECT_EQ(request.netns, "/run/netns/a");
  EXPECT_FALSE(parse(kAdd).value().loopback);
}

TEST(CniRequest, VersionNeedsNothing) {
  const auto request = parse({{"CNI_COMMAND", "VERSION"}}, "").value();
  EXPECT_TRUE(request.op.empty());
  EXPECT_EQ(request.cni_version, "1.1.0");
  EXPECT_EQ(parse({{"CNI_COMMAND", "VERSION"}}, R"({"cniVersion": "0.4.0"})")->cni_version, "0.4.0");
}

}  // namespace
}  // namespace fairlead::cni
