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
                     {"CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;odd;K8S_POD_UID=u=1"}};
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

TEST(CniRequest, AddBecomesOneCall) {
  const auto request = parse(kAdd).value();
  EXPECT_EQ(request.op, "cni.add");
  EXPECT_EQ(request.socket, "/run/f/agent.sock");
  EXPECT_EQ(request.args, (Json{{"container", "abc"},
                                {"ifname", "eth0"},
                                {"netns", "/run/netns/a"},
                                {"podNamespace", "default"},
                                {"podName", "web"},
                                {"podUid", "u=1"},
                                {"cniVersion", "1.0.0"}}));
}

TEST(CniRequest, DelNeedsNoNamespaceAndCheckDoes) {
  Variables variables = with("CNI_NETNS", "");
  variables["CNI_COMMAND"] = "DEL";
  EXPECT_EQ(parse(variables).value().op, "cni.del");
  variables["CNI_COMMAND"] = "CHECK";
  EXPECT_EQ(parse(variables).error().code, CniCode::kInvalidEnvironment);
}

TEST(CniRequest, BadEnvironmentsAreNamed) {
  for (const char* name : {"CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}) {
    const auto refused = parse(with(name, ""));
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code, CniCode::kInvalidEnvironment) << name;
    EXPECT_NE(refused.error().message.find(name), std::string::npos) << name;
  }
  EXPECT_EQ(parse(with("CNI_COMMAND", "GC")).error().code, CniCode::kInvalidEnvironment);
  EXPECT_TRUE(parse(with("CNI_ARGS", ";;=;a=;")));
}

TEST(CniRequest, BadConfigurationsHaveTheSpecsCodes) {
  for (const auto& [text, code] : {std::pair{"", CniCode::kDecode},
                                   {"{", CniCode::kDecode},
                                   {"[]", CniCode::kDecode},
                                   {"null", CniCode::kDecode},
                                   {"{}", CniCode::kInvalidConfig},
                                   {R"({"cniVersion": "1.0.0"})", CniCode::kInvalidConfig},
                                   {R"({"cniVersion": 1, "runDir": "/x"})", CniCode::kInvalidConfig},
                                   {R"({"cniVersion": "1.0.0", "runDir": "x"})", CniCode::kInvalidConfig},
                                   {R"({"cniVersion": "0.2.0", "runDir": "/x"})", CniCode::kIncompatibleVersion}}) {
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
  EXPECT_EQ(version_result(request.cni_version)["cniVersion"], "1.1.0");
  EXPECT_EQ(parse({{"CNI_COMMAND", "VERSION"}}, R"({"cniVersion": "0.4.0"})")->cni_version, "0.4.0");
  EXPECT_EQ(version_result("1.0.0")["supportedVersions"], (Json{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}));
}

TEST(CniRequest, TheAgentsErrorsBecomeTheSpecs) {
  const auto code = [](const char* command, Code error) { return from_agent(command, Error{error, "x", 0}).code; };
  EXPECT_EQ(code("ADD", Code::kUnavailable), CniCode::kTryAgain);
  EXPECT_EQ(code("ADD", Code::kTimeout), CniCode::kTryAgain);
  EXPECT_EQ(code("ADD", Code::kExhausted), CniCode::kTryAgain);
  EXPECT_EQ(code("ADD", Code::kInvalid), CniCode::kInvalidEnvironment);
  EXPECT_EQ(code("ADD", Code::kNotFound), CniCode::kInvalidEnvironment);
  EXPECT_EQ(code("CHECK", Code::kNotFound), CniCode::kUnknownContainer);
  EXPECT_EQ(code("DEL", Code::kSystem), CniCode::kInternal);
  EXPECT_EQ(error_result("", {CniCode::kTryAgain, "later", ""}),
            (Json{{"cniVersion", "1.1.0"}, {"code", 11}, {"msg", "later"}}));
  EXPECT_EQ(error_result("1.0.0", {CniCode::kIo, "m", "d"})["details"], "d");
}

}  // namespace
}  // namespace fairlead::cni
