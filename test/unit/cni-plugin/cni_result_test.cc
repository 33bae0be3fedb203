// SPDX-License-Identifier: Apache-2.0
#include "cni-plugin/cni_result.h"

#include <gtest/gtest.h>

namespace fairlead::cni {
namespace {

// As the agent answers cni.add.
const Json kOurs{
    {"interfaces", {{{"name", "fl0"}, {"mtu", 1450}}, {{"name", "eth0"}, {"mtu", 1450}, {"sandbox", "/n"}}}},
    {"ips",
     {{{"address", "10.0.0.2/32"}, {"gateway", "169.254.1.1"}, {"interface", 1}},
      {{"address", "fd00::2/128"}, {"gateway", "fe80::1"}, {"interface", 1}}}},
    {"routes", {{{"dst", "0.0.0.0/0"}, {"gw", "169.254.1.1"}}}}};

CniRequest request(const char* version, Json previous = {}, Json dns = {}) {
  CniRequest out;
  out.command = "ADD";
  out.cni_version = version;
  out.previous = std::move(previous);
  out.dns = std::move(dns);
  return out;
}

TEST(CniResult, AloneItIsTheAgents) {
  Json expected = kOurs;
  expected["cniVersion"] = "1.1.0";
  expected["dns"] = Json::object();
  EXPECT_EQ(add_result(request("1.1.0"), kOurs).value(), expected);
}

TEST(CniResult, EachVersionHasItsForm) {
  for (const char* version : {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}) {
    const Json result = add_result(request(version), kOurs).value();
    EXPECT_EQ(result["cniVersion"], version);
    EXPECT_EQ(result["interfaces"][1].contains("mtu"), version == std::string("1.1.0")) << version;
    EXPECT_EQ(result["ips"][0].value("version", ""), *version == '0' ? "4" : "") << version;
    EXPECT_EQ(result["ips"][1].value("version", ""), *version == '0' ? "6" : "") << version;
  }
}

TEST(CniResult, BehindOthersItCarriesOnWhatTheyDid) {
  const Json previous{{"cniVersion", "1.1.0"},
                      {"interfaces", {{{"name", "net1"}, {"sandbox", "/n"}, {"pciID", "0000:00:01.0"}}}},
                      {"ips", {{{"address", "192.0.2.5/24"}, {"interface", 0}}}},
                      {"routes", {{{"dst", "192.0.2.0/24"}, {"priority", 7}}}},
                      {"dns", {{"nameservers", {"192.0.2.1"}}}},
                      {"theirs", 1}};
  const Json result = add_result(request("1.1.0", previous), kOurs).value();
  ASSERT_EQ(result["interfaces"].size(), 3U);
  EXPECT_EQ(result["interfaces"][0], previous["interfaces"][0]);
  ASSERT_EQ(result["ips"].size(), 3U);
  EXPECT_EQ(result["ips"][0], previous["ips"][0]);
  EXPECT_EQ(result["ips"][1]["interface"], 2) << "an index into the joined list";
  EXPECT_EQ(result["routes"].size(), 2U);
  EXPECT_EQ(result["dns"], previous["dns"]);
  EXPECT_EQ(result["theirs"], 1);
  const Json older = add_result(request("1.0.0", previous), kOurs).value();
  EXPECT_FALSE(older["interfaces"][0].contains("pciID"));
  EXPECT_FALSE(older["routes"][0].contains("priority"));
  EXPECT_EQ(add_result(request("1.1.0", Json::object()), kOurs)->at("interfaces"), kOurs["interfaces"]);
}

TEST(CniResult, TheConfigurationsDnsIsTheResults) {
  const Json dns{{"nameservers", {"192.0.2.53"}}, {"search", {"example"}}};
  const Json previous{{"dns", {{"nameservers", {"192.0.2.1"}}}}};
  EXPECT_EQ(add_result(request("1.1.0", previous, dns), kOurs)->at("dns"), dns);
}

TEST(CniResult, WhatIsNoResultIsRefused) {
  for (const Json& previous : {Json{{"interfaces", 7}}, Json{{"ips", {7}}}, Json{{"routes", "x"}}}) {
    const auto refused = add_result(request("1.1.0", previous), kOurs);
    ASSERT_FALSE(refused) << previous;
    EXPECT_EQ(refused.error().code, CniCode::kDecode);
    EXPECT_NE(refused.error().message.find("prevResult"), std::string::npos);
  }
}

TEST(CniResult, StatusSaysWhyNoAddCanBeServed) {
  EXPECT_TRUE(status_result({{"problems", Json::array()}, {"limitedConnectivity", false}}));
  const auto full = status_result({{"problems", {"no address", "no policy"}}, {"limitedConnectivity", false}});
  EXPECT_EQ(full.error().code, CniCode::kNotAvailable);
  EXPECT_EQ(full.error().message, "no address; no policy");
  EXPECT_EQ(status_result({{"problems", {"x"}}, {"limitedConnectivity", true}}).error().code,
            CniCode::kLimitedConnectivity);
}

TEST(CniResult, VersionNamesAllThatAreSpoken) {
  EXPECT_EQ(version_result("1.0.0"),
            (Json{{"cniVersion", "1.0.0"}, {"supportedVersions", {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}}}));
}

TEST(CniResult, TheAgentsErrorsBecomeTheSpecs) {
  const auto code = [](const char* command, Code error, const char* text = "x") {
    return from_agent(command, Error{error, text, 0}).code;
  };
  EXPECT_EQ(code("ADD", Code::kUnavailable), CniCode::kTryAgain);
  EXPECT_EQ(code("ADD", Code::kTimeout), CniCode::kTryAgain);
  EXPECT_EQ(code("ADD", Code::kExhausted), CniCode::kTryAgain);
  EXPECT_EQ(code("ADD", Code::kInvalid), CniCode::kInvalidEnvironment);
  EXPECT_EQ(code("ADD", Code::kInvalid, "argument runtimeConfig.ips[0]: x"), CniCode::kInvalidConfig);
  EXPECT_EQ(code("ADD", Code::kExists, "argument runtimeConfig.portMappings: x"), CniCode::kInvalidConfig);
  EXPECT_EQ(code("ADD", Code::kNotFound), CniCode::kInvalidEnvironment);
  EXPECT_EQ(code("CHECK", Code::kNotFound), CniCode::kUnknownContainer);
  EXPECT_EQ(code("CHECK", Code::kConflict), CniCode::kInternal);
  EXPECT_EQ(code("STATUS", Code::kUnavailable), CniCode::kNotAvailable);
  EXPECT_EQ(code("GC", Code::kUnavailable), CniCode::kTryAgain);
  EXPECT_EQ(code("DEL", Code::kSystem), CniCode::kInternal);
  EXPECT_EQ(error_result("", {CniCode::kTryAgain, "later", ""}),
            (Json{{"cniVersion", "1.1.0"}, {"code", 11}, {"msg", "later"}}));
  EXPECT_EQ(error_result("1.0.0", {CniCode::kIo, "m", "d"})["details"], "d");
}

}  // namespace
}  // namespace fairlead::cni
