// SPDX-License-Identifier: Apache-2.0
// Maps of another size are replaced under traffic: no packet is lost, and no connection forgotten.
#include "test/netns/migration_fixture.h"

namespace fairlead::network {
namespace {

TEST_F(MigrationTest, MoreRoomForConnections) {
  restart_under_traffic({.connections = 200'000, .translated = 200'000, .services = {}});
  EXPECT_EQ(capacity("ct4_slots"), 200'000U);
  EXPECT_EQ(capacity("ct6"), CT_BUCKETS(400'000U));
}

TEST_F(MigrationTest, LessRoomForConnections) {
  restart_under_traffic({.connections = 65'536, .translated = 65'536, .services = {}});
  EXPECT_EQ(capacity("ct6_slots"), 65'536U);
}

TEST_F(MigrationTest, AnotherSizeOfTheServiceMaps) {
  restart_under_traffic({.services = {.frontends = 100'000, .services = SERVICE_HOMES, .backends = 300'000}});
  EXPECT_EQ(capacity("svc4"), 100'000U);
  EXPECT_EQ(capacity("backends6"), 300'000U);
  EXPECT_EQ(capacity("ct4_slots"), 131'072U);
}

TEST_F(MigrationTest, AllOfThemAtOnce) {
  restart_under_traffic({.connections = 100'032,
                         .translated = 50'000,
                         .services = {.frontends = 300'000, .services = 300'000, .run_slots = 1U << 20},
                         .policy = {.addresses = 100'000, .cidrs = 10'000, .peers = 100'000}});
  EXPECT_EQ(capacity("runs"), 1U << 20);
  EXPECT_EQ(capacity("pol_cidr6"), 10'000U);
  EXPECT_EQ(capacity("ct4_ring"), 100'032U / 4);
}

TEST_F(MigrationTest, WhatDoesNotFitIsRefusedAndAllStays) {
  // Four are in use, at their homes.
  stop();
  {
    const auto root = datapath::BpfRoot::open(path()).value();
    datapath::PodCapacities wanted;
    wanted.services.services = 2;
    const auto migrated = datapath::migrate_maps(root, cgroup_->path(), wanted);
    ASSERT_FALSE(migrated);
    EXPECT_EQ(migrated.error().code, Code::kExhausted);
    EXPECT_NE(migrated.error().message().find("map services: elements beyond 2 are in use"), std::string::npos);
  }
  start();
  EXPECT_EQ(capacity("services"), 262'144U);
  a_->netns.run([&] { EXPECT_TRUE(testkit::ask_datagram({kService[0], kPort}, 100, 1)); });
}

}  // namespace
}  // namespace fairlead::network
