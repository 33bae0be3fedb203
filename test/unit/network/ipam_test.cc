// SPDX-License-Identifier: Apache-2.0
#include "agent/network/ipam.h"

#include <gtest/gtest.h>

#include <set>

namespace fairlead::network {
namespace {

using namespace std::chrono_literals;

constexpr WallTime kStart{std::chrono::hours(1)};

Cidr range(const char* text) {
  return Cidr::parse(text).value();
}

IpAddress ip(const char* text) {
  return IpAddress::parse(text).value();
}

TEST(Pool, HandsOutAllButNetworkGatewayAndBroadcast) {
  struct Case {
    const char* range;
    std::vector<const char*> addresses;
  };
  for (const Case& c : {Case{"10.0.0.0/29", {"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"}},
                        Case{"10.0.0.8/30", {"10.0.0.10"}}, Case{"10.0.0.0/31", {}}, Case{"10.0.0.0/32", {}},
                        Case{"fd00::/126", {"fd00::2", "fd00::3"}}, Case{"fd00::/127", {}}, Case{"fd00::/128", {}}}) {
    Pool pool(range(c.range), 30s);
    EXPECT_EQ(pool.capacity(), c.addresses.size()) << c.range;
    for (const char* address : c.addresses) EXPECT_EQ(pool.allocate(kStart).value(), ip(address)) << c.range;
    const auto full = pool.allocate(kStart);
    ASSERT_FALSE(full) << c.range;
    EXPECT_EQ(full.error().code, Code::kExhausted);
    EXPECT_NE(full.error().what.find(c.range), std::string::npos);
  }
}

TEST(Pool, AnAddressRestsAndOthersComeFirst) {
  Pool pool(range("10.0.0.0/29"), 30s);
  const IpAddress first = pool.allocate(kStart).value();
  pool.release(first, kStart);
  std::set<IpAddress> others;
  for (int i = 0; i < 4; ++i) others.insert(pool.allocate(kStart + 29s).value());
  EXPECT_EQ(others.size(), 4U);
  EXPECT_FALSE(others.contains(first));
  EXPECT_FALSE(pool.allocate(kStart + 29s));
  EXPECT_EQ(pool.allocate(kStart + 30s).value(), first);
}

TEST(Pool, ReleasingWhatIsNotTakenDoesNothing) {
  Pool pool(range("10.0.0.0/29"), 30s);
  pool.release(ip("10.0.0.4"), kStart);
  EXPECT_TRUE(pool.resting().empty());
}

TEST(Pool, AClaimedAddressIsTakenOnce) {
  Pool pool(range("10.0.0.0/29"), 30s);
  EXPECT_TRUE(pool.claim(ip("10.0.0.2")));
  EXPECT_EQ(pool.claim(ip("10.0.0.2")).error().code, Code::kExists);
  EXPECT_EQ(pool.allocate(kStart).value(), ip("10.0.0.3"));
}

TEST(Pool, ARestartGoesOnWhereItWas) {
  Pool before(range("10.0.0.0/24"), 30s);
  for (int i = 0; i < 10; ++i) (void)before.allocate(kStart);
  before.release(ip("10.0.0.5"), kStart);
  Pool after(range("10.0.0.0/24"), 30s);
  ASSERT_TRUE(after.claim(ip("10.0.0.2")));
  after.restore(before.resting(), before.cursor());
  EXPECT_EQ(after.allocate(kStart).value(), ip("10.0.0.12"));
  EXPECT_EQ(after.resting().count(ip("10.0.0.5")), 1U);
}

TEST(Pool, RestoreIgnoresWhatIsOutsideOrLive) {
  Pool pool(range("10.0.0.0/24"), 30s);
  ASSERT_TRUE(pool.claim(ip("10.0.0.2")));
  pool.restore({{ip("10.0.0.2"), kStart}, {ip("10.9.0.2"), kStart}, {ip("fd00::2"), kStart}}, ip("10.9.0.9"));
  EXPECT_TRUE(pool.resting().empty());
  EXPECT_EQ(pool.allocate(kStart).value(), ip("10.0.0.3"));
}

TEST(Pool, AHugeRangeIsNoTrouble) {
  Pool pool(range("fd00::/48"), 30s);
  EXPECT_EQ(pool.allocate(kStart).value(), ip("fd00::2"));
  EXPECT_EQ(pool.allocate(kStart).value(), ip("fd00::3"));
}

TEST(Ipam, APodGetsOneAddressOfEachFamilyOrNone) {
  Ipam ipam({range("10.0.0.0/29"), range("fd00::/126")}, 30s);
  EXPECT_EQ(ipam.allocate(kStart).value(), (std::vector{ip("10.0.0.2"), ip("fd00::2")}));
  EXPECT_TRUE(ipam.allocate(kStart));
  EXPECT_EQ(ipam.allocate(kStart).error().code, Code::kExhausted);
  EXPECT_EQ(ipam.pools()[0].used(), 2U) << "the v4 address of the failed one is not in use";
}

TEST(Ipam, AddressesOfAnEarlierRangeAreNobodys) {
  Ipam ipam({range("10.0.0.0/29")}, 30s);
  EXPECT_TRUE(ipam.claim({ip("10.9.0.2"), ip("fd00::2")}));
  ipam.release({ip("10.9.0.2")}, kStart);
  EXPECT_EQ(ipam.pools()[0].used(), 0U);
}

TEST(Ipam, CertainAddressesAreGivenWhereTheyAreFree) {
  Ipam ipam({range("10.0.0.0/29"), range("fd00::/125")}, 30s);
  EXPECT_EQ(ipam.allocate(kStart, {ip("10.0.0.5")}).value(), (std::vector{ip("10.0.0.5"), ip("fd00::2")}));
  EXPECT_EQ(ipam.allocate(kStart, {ip("10.0.0.5")}).error().code, Code::kExists);
  EXPECT_EQ(ipam.allocate(kStart, {ip("10.0.0.7")}).error().code, Code::kInvalid) << "broadcast";
  EXPECT_EQ(ipam.allocate(kStart, {ip("10.0.0.1")}).error().code, Code::kInvalid) << "the gateway's by custom";
  EXPECT_EQ(ipam.allocate(kStart, {ip("10.0.1.5")}).error().code, Code::kInvalid) << "of no range";
  ipam.release({ip("10.0.0.5"), ip("fd00::2")}, kStart);
  EXPECT_EQ(ipam.allocate(kStart + 1s, {ip("10.0.0.5")}).error().code, Code::kExhausted) << "it rests";
  EXPECT_TRUE(ipam.allocate(kStart + 31s, {ip("10.0.0.5")}));
  EXPECT_TRUE(ipam.has_room(kStart));
}

}  // namespace
}  // namespace fairlead::network
