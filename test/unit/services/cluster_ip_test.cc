// SPDX-License-Identifier: Apache-2.0
#include "agent/services/cluster_ip.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "agent/base/atomic_file.h"
#include "test/unit/services/rows.h"

namespace fairlead::services {
namespace {

using Addresses = std::vector<IpAddress>;

struct ClusterIps : testing::Test {
  std::filesystem::path dir = testing::TempDir() + "fairlead-cluster-ips-" + std::to_string(::getpid());
  std::string path = dir / "cluster-ips.json";
  ClusterIps() {
    std::filesystem::remove_all(dir);
    std::filesystem::create_directories(dir);
  }
  ~ClusterIps() override { std::filesystem::remove_all(dir); }

  ClusterIpAllocator open(std::string_view ranges = "10.96.0.0/16") {
    return ClusterIpAllocator::open(parse_cidr_list(ranges).value(), path).value();
  }
};

TEST_F(ClusterIps, AreStableDistinctAndOutsideTheStaticBand) {
  auto first = open();
  auto second = open();
  std::set<IpAddress> seen;
  for (int i = 0; i < 200; ++i) {
    const auto row = service("s" + std::to_string(i), {});
    const Addresses given = first.assign(row).value();
    ASSERT_EQ(given.size(), 1U);
    EXPECT_TRUE(seen.insert(given[0]).second);
    EXPECT_GT(Cidr::parse("10.96.0.0/16")->offset_of(given[0]), 256U);
    EXPECT_EQ(given, first.assign(row).value());   // asked again
    EXPECT_EQ(given, second.assign(row).value());  // derived again from nothing
  }
}

TEST_F(ClusterIps, ARangeIsUsedUpToItsLastAddressThenExhausted) {
  auto allocator = open("10.96.0.0/28");  // 14 addresses
  std::set<IpAddress> seen;
  for (int i = 0; i < 14; ++i) seen.insert(allocator.assign(service("s" + std::to_string(i), {}))->front());
  EXPECT_EQ(seen.size(), 14U);
  EXPECT_EQ(*seen.begin(), ip("10.96.0.1"));
  EXPECT_EQ(*seen.rbegin(), ip("10.96.0.14"));
  const auto full = allocator.assign(service("late", {}));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, Code::kExhausted);
  allocator.release("default/s3");
  EXPECT_TRUE(allocator.assign(service("late", {})));
}

TEST_F(ClusterIps, ADeclaredAddressIsHonouredOrRefusedWithBothNames) {
  auto allocator = open();
  EXPECT_EQ(allocator.assign(service("dns", {"10.96.0.10"})).value(), Addresses{ip("10.96.0.10")});
  const auto taken = allocator.assign(service("web", {"10.96.0.10"}));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, Code::kConflict);
  EXPECT_EQ(taken.error().what,
            "Service default/web: spec.clusterIPs: 10.96.0.10 is the address of Service default/dns already");
  EXPECT_EQ(allocator.assign(service("dns", {"10.96.0.11"})).value(), Addresses{ip("10.96.0.11")});
  EXPECT_TRUE(allocator.assign(service("web", {"10.96.0.10"})));
}

TEST_F(ClusterIps, ADeclaredAddressOutsideTheRangeIsInvalid) {
  auto allocator = open("10.96.0.0/24");
  for (const char* address : {"10.97.0.1", "10.96.0.0", "10.96.0.255", "fd00::1"}) {
    const auto refused = allocator.assign(service("web", {address}));
    ASSERT_FALSE(refused) << address;
    EXPECT_EQ(refused.error().code, Code::kInvalid);
  }
}

TEST_F(ClusterIps, FamiliesFollowTheServiceAndItsPolicy) {
  using model::FamilyPolicy;
  struct Case {
    const char* what;
    const char* ranges;
    std::vector<Family> families;
    FamilyPolicy policy;
    std::vector<Family> want;  // empty: refused
  };
  const Case cases[] = {
      {"none named", "10.96.0.0/16,fd00::/108", {}, FamilyPolicy::kSingleStack, {Family::kV4}},
      {"none named, v6 first", "fd00::/108,10.96.0.0/16", {}, FamilyPolicy::kSingleStack, {Family::kV6}},
      {"v6 named", "10.96.0.0/16,fd00::/108", {Family::kV6}, FamilyPolicy::kSingleStack, {Family::kV6}},
      {"both named",
       "10.96.0.0/16,fd00::/108",
       {Family::kV6, Family::kV4},
       FamilyPolicy::kRequireDualStack,
       {Family::kV6, Family::kV4}},
      {"dual preferred", "10.96.0.0/16,fd00::/108", {}, FamilyPolicy::kPreferDualStack, {Family::kV4, Family::kV6}},
      {"dual preferred, one range", "10.96.0.0/16", {}, FamilyPolicy::kPreferDualStack, {Family::kV4}},
      {"dual required, one range", "10.96.0.0/16", {}, FamilyPolicy::kRequireDualStack, {}},
      {"v6 named, no such range", "10.96.0.0/16", {Family::kV6}, FamilyPolicy::kSingleStack, {}},
  };
  for (const Case& each : cases) {
    auto row = service("web", {});
    row.families = each.families;
    row.family_policy = each.policy;
    std::vector<Family> got;
    auto allocator = open(each.ranges);
    const auto given = allocator.assign(row);
    if (given) {
      for (const IpAddress& address : *given) got.push_back(address.family());
    }
    EXPECT_EQ(got, each.want) << each.what;
  }
}

TEST_F(ClusterIps, SurviveARestartAndAreReleasedWhenNobodyDeclaresThem) {
  auto allocator = open();
  const auto a = allocator.assign(service("a", {}))->front();
  const auto b = allocator.assign(service("b", {"10.96.7.7"}))->front();
  EXPECT_TRUE(allocator.changed());
  ASSERT_TRUE(allocator.save());
  EXPECT_FALSE(allocator.changed());

  auto again = open();
  EXPECT_FALSE(again.changed());
  EXPECT_EQ(again.assign(service("b", {}))->front(), b);  // remembered though not declared any more
  const auto taken = again.assign(service("c", {a.str()}));
  ASSERT_FALSE(taken);
  again.retain({"default/b", "default/c"});
  EXPECT_TRUE(again.assign(service("c", {a.str()})));
}

TEST_F(ClusterIps, AFileThatCannotBeUnderstoodIsSetAside) {
  const char* broken[] = {
      "",
      "{\"version\": 1, \"clusterIPs\": {\"default/web\": [\"10.9",
      "[]",
      "{\"clusterIPs\": {}}",
      "{\"version\": 2, \"clusterIPs\": {}}",
      "{\"version\": 1}",
      "{\"version\": 1, \"clusterIPs\": {\"default/web\": \"10.96.0.5\"}}",
      "{\"version\": 1, \"clusterIPs\": {\"default/web\": [5]}}",
      "{\"version\": 1, \"clusterIPs\": {\"default/web\": [\"10.96.0.500\"]}}",
      "{\"version\": 1, \"clusterIPs\": {\"default/web\": [\"10.96.0.5\"], \"default/db\": [\"10.96.0.5\"]}}",
  };
  for (const char* text : broken) {
    ASSERT_TRUE(write_atomically(path, text));
    auto allocator = open();
    EXPECT_FALSE(std::filesystem::exists(path)) << text;
    EXPECT_EQ(read_file(path + ".corrupt").value(), text);
    EXPECT_TRUE(allocator.assign(service("web", {"10.96.0.5"}))) << text;
  }
}

TEST_F(ClusterIps, RememberedAddressesOutsideANewRangeAreForgotten) {
  auto allocator = open();
  allocator.assign(service("web", {"10.96.0.5"})).value();
  ASSERT_TRUE(allocator.save());
  auto moved = open("10.100.0.0/16");
  EXPECT_TRUE(moved.changed());
  EXPECT_TRUE(Cidr::parse("10.100.0.0/16")->contains(moved.assign(service("web", {}))->front()));
}

TEST_F(ClusterIps, AFileThatCannotBeReadOrWrittenIsAnError) {
  std::filesystem::create_directory(path);
  EXPECT_FALSE(ClusterIpAllocator::open(parse_cidr_list("10.96.0.0/16").value(), path));
  std::filesystem::remove(path);
  auto allocator = open();
  allocator.assign(service("web", {})).value();
  std::filesystem::remove_all(dir);
  EXPECT_FALSE(allocator.save());
  EXPECT_TRUE(allocator.changed());
}

}  // namespace
}  // namespace fairlead::services
