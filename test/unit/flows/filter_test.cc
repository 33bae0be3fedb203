// SPDX-License-Identifier: Apache-2.0
#include "agent/flows/filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fairlead::flows {
namespace {

SocketAddress end(const char* text) {
  return SocketAddress::parse(text).value();
}

Filter filter(const Json& args) {
  const auto parsed = parse_filter(args);
  EXPECT_TRUE(parsed) << parsed.error().message();
  return parsed.value_or(Filter{});
}

model::ServedNetns web() {
  return {.addresses = {IpAddress::parse("10.1.0.2").value(), IpAddress::parse("fd00::2").value()},
          .ifindex = 7,
          .pod = {.ns = "default", .name = "web"}};
}

Names names() {
  Names all;
  all.set_pod(web());
  all.set_services(Json::array({{{"namespace", "kube-system"},
                                 {"name", "dns"},
                                 {"cluster_ips", {"10.96.0.10", "fd00:96::10"}},
                                 {"ports", {{{"port", 53}, {"protocol", "UDP"}}}}}}));
  return all;
}

const datapath::Connection kConnection{.protocol = 17,
                                       .state = "STREAM",
                                       .translated = true,
                                       .client = end("10.1.0.2:40000"),
                                       .server = end("10.96.0.10:53"),
                                       .from = end("10.1.0.2:40000"),
                                       .to = end("10.1.9.9:5353")};

TEST(Filter, OfNothingMatchesAll) {
  EXPECT_TRUE(filter(Json::object()).matches(kConnection, Names()));
  EXPECT_TRUE(filter(Json()).matches(datapath::Drop{}, Names()));
}

TEST(Filter, EachHoldsByItselfAndAllMustHold) {
  for (const Json& holds :
       {Json{{"family", "4"}}, Json{{"protocol", "Udp"}}, Json{{"protocol", "17"}}, Json{{"address", "10.1.9.9"}},
        Json{{"address", "10.1.9.0/24"}}, Json{{"port", "5353"}}, Json{{"state", "stream"}},
        Json{{"pod", "default/web"}}, Json{{"service", "kube-system/dns"}}}) {
    EXPECT_TRUE(filter(holds).matches(kConnection, names())) << holds;
    Json both = holds;
    both[holds.contains("port") ? "state" : "port"] = "54";
    EXPECT_FALSE(filter(both).matches(kConnection, names())) << both;
  }
  for (const Json& fails : {Json{{"family", "6"}}, Json{{"protocol", "TCP"}}, Json{{"address", "10.1.8.0/24"}},
                            Json{{"address", "::/0"}}, Json{{"port", "1"}}, Json{{"state", "UNREPLIED"}},
                            Json{{"pod", "default/other"}}, Json{{"service", "kube-system/web"}}}) {
    EXPECT_FALSE(filter(fails).matches(kConnection, names())) << fails;
  }
}

TEST(Filter, OfDropsKnowsTheDevicesPod) {
  const datapath::Drop drop{.reason = "no_backend",
                            .ifindex = 7,
                            .protocol = 17,
                            .source = end("[fd00::3]:1"),
                            .destination = end("[fd00:96::10]:53")};
  EXPECT_TRUE(filter({{"pod", "default/web"}, {"reason", "no_backend"}, {"family", "6"}}).matches(drop, names()));
  EXPECT_TRUE(filter({{"service", "kube-system/dns"}}).matches(drop, names()));
  EXPECT_FALSE(filter({{"reason", "fragment"}}).matches(drop, names()));
  datapath::Drop elsewhere = drop;
  elsewhere.ifindex = 8;
  EXPECT_FALSE(filter({{"pod", "default/web"}}).matches(elsewhere, names()));
}

TEST(Filter, RefusesWhatItCannotRead) {
  for (const char* name : {"family", "address", "port"}) {
    const auto refused = parse_filter({{name, "x"}});
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code, Code::kInvalid);
    EXPECT_THAT(refused.error().what, testing::HasSubstr(name));
  }
  EXPECT_FALSE(parse_filter({{"port", "65536"}}));
  EXPECT_FALSE(parse_filter({{"state", 7}}));
}

TEST(Names, FollowPods) {
  Names all = names();
  EXPECT_EQ(all.pod(web().addresses[1]), "default/web");
  EXPECT_EQ(all.pod_at(7), "default/web");
  all.erase_pod(web());
  EXPECT_EQ(all.pod(web().addresses[1]), "");
  EXPECT_EQ(all.pod_at(7), "");
  EXPECT_EQ(all.service(end("10.96.0.10:53"), 6), "") << "another protocol";
}

}  // namespace
}  // namespace fairlead::flows
