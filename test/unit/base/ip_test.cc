// SPDX-License-Identifier: Apache-2.0
#include "agent/base/ip.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace fairlead {
namespace {

TEST(IpAddress, ReadsAndWritesCanonicalText) {
  EXPECT_EQ(IpAddress::parse("10.0.0.1")->str(), "10.0.0.1");
  EXPECT_EQ(IpAddress::parse("FD00:0:0::1")->str(), "fd00::1");
  EXPECT_EQ(IpAddress::parse("::ffff:10.0.0.1")->family(), Family::kV6);
}

TEST(IpAddress, WritesWhatTheLibraryWrites) {
  std::mt19937 random(7);
  const auto library = [](int family, const void* bytes) {
    char text[INET6_ADDRSTRLEN] = {};
    inet_ntop(family, bytes, text, sizeof(text));
    return std::string(text);
  };
  for (int round = 0; round < 200'000; ++round) {
    std::array<std::uint8_t, 16> bytes{};
    // Zeros and runs of them, and the beginnings of addresses that hold an IPv4 one, are as frequent as they matter.
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
      const unsigned kind = random() % 4;
      if (kind == 0) bytes[i] = static_cast<std::uint8_t>(random());
      if (kind < 2) bytes[i + 1] = static_cast<std::uint8_t>(random());
      if (kind == 2 && i == 10) bytes[i] = bytes[i + 1] = 0xff;
    }
    if (random() % 4 == 0) std::fill_n(bytes.begin(), 10, std::uint8_t{0});
    EXPECT_EQ(IpAddress::from_v6(bytes).str(), library(AF_INET6, bytes.data()));
    EXPECT_EQ(IpAddress::from_v4({bytes[0], bytes[1], bytes[2], bytes[3]}).str(), library(AF_INET, bytes.data()));
  }
}

TEST(IpAddress, RefusesWhatIsNoAddressAndQuotesIt) {
  for (const char* text : {"", "10.0.0", "10.0.0.256", "fd00::1::2", "10.0.0.1/8", " 10.0.0.1"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_FALSE(address) << text;
    EXPECT_NE(address.error().what.find(text), std::string::npos);
  }
}

TEST(Cidr, HostBitsAreRefusedOrMasked) {
  EXPECT_FALSE(Cidr::parse("10.0.0.1/8"));
  EXPECT_EQ(Cidr::parse("10.0.0.1/8", true)->str(), "10.0.0.0/8");
  EXPECT_FALSE(Cidr::parse("10.0.0.0/33"));
  EXPECT_FALSE(Cidr::parse("10.0.0.0/"));
}

TEST(Cidr, OffsetsRoundTripOverByteBorders) {
  const Cidr v4 = *Cidr::parse("10.1.0.0/16");
  EXPECT_EQ(v4.at(300).str(), "10.1.1.44");
  EXPECT_EQ(v4.offset_of(v4.at(300)), 300U);
  const Cidr v6 = *Cidr::parse("fd00:1::/64");
  EXPECT_EQ(v6.at(0x1ffff).str(), "fd00:1::1:ffff");
  EXPECT_EQ(v6.offset_of(v6.at(0x1ffff)), 0x1ffffU);
}

TEST(Cidr, ContainsByFamilyAndPrefix) {
  const Cidr cidr = *Cidr::parse("10.1.128.0/17");
  EXPECT_TRUE(cidr.contains(*IpAddress::parse("10.1.200.1")));
  EXPECT_FALSE(cidr.contains(*IpAddress::parse("10.1.127.1")));
  EXPECT_FALSE(cidr.contains(*IpAddress::parse("fd00::1")));
  EXPECT_TRUE(Cidr::parse("::/0")->contains(*IpAddress::parse("fd00::1")));
}

TEST(Lists, TakeOneOfEachFamily) {
  EXPECT_EQ(parse_cidr_list("10.0.0.0/16,fd00::/64")->size(), 2U);
  EXPECT_FALSE(parse_cidr_list("10.0.0.0/16,10.1.0.0/16"));
  EXPECT_FALSE(parse_ip_list("10.0.0.1,"));
}

TEST(SocketAddress, RoundTripsAndRefusesWhatIsNeither) {
  for (const char* text : {"127.0.0.1:10249", "[::1]:80", "0.0.0.0:0"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->str(), text);
  }
  for (const char* text :
       {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:1x", "::1:80", "[::1]", "[1.2.3.4]:5"}) {
    EXPECT_FALSE(SocketAddress::parse(text)) << text;
  }
}

}  // namespace
}  // namespace fairlead
