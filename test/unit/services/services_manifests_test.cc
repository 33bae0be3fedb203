// SPDX-License-Identifier: Apache-2.0
// Services of manifests: their addresses are given here, and their slices are made here.
#include <unistd.h>

#include <filesystem>

#include "agent/base/atomic_file.h"
#include "agent/services/slice_controller.h"
#include "test/unit/services/services_fixture.h"

namespace fairlead::services {
namespace {

using namespace std::chrono_literals;

struct ManifestsTest : ServicesTest {
  std::filesystem::path dir = testing::TempDir() + "fairlead-services-" + std::to_string(::getpid());
  std::string path = dir / "cluster-ips.json";
  ManifestsTest() {
    std::filesystem::remove_all(dir);
    std::filesystem::create_directories(dir);
    addresses = ClusterIpAllocator::open(parse_cidr_list("10.96.0.0/24").value(), path).value();
  }
  ~ManifestsTest() override { std::filesystem::remove_all(dir); }
  IpAddress address_of(const std::string& name) {
    return balancer.entries.at("default/" + name + ":80/TCP/4").frontends.at(0).address;
  }
};

TEST_F(ManifestsTest, ServicesGetAddressesThatAreRemembered) {
  services.upsert("default/web", service("web", {}));
  auto headless = service("headless", {});
  headless.headless = true;
  services.upsert("default/headless", headless);
  list("web", {"10.0.0.1"});
  start();
  ASSERT_EQ(balancer.entries.size(), 1U);
  const Json file = Json::parse(read_file(path).value());
  EXPECT_EQ(file["clusterIPs"], (Json{{"default/web", {address_of("web").str()}}}));
  EXPECT_EQ(ask("service.get", {{"name", "web"}}).value()["cluster_ips"], Json::array({address_of("web").str()}));
  services.erase("default/web");
  loop.poll();
  EXPECT_TRUE(Json::parse(read_file(path).value())["clusterIPs"].empty());
}

TEST_F(ManifestsTest, DeclaredAddressesComeFirst) {
  // "aaa" would be given this very address, and its turn is before "zzz".
  const IpAddress wanted = ClusterIpAllocator::open(parse_cidr_list("10.96.0.0/24").value(), path)
                               ->assign(service("aaa", {}))
                               .value()
                               .front();
  services.upsert("default/aaa", service("aaa", {}));
  services.upsert("default/zzz", service("zzz", {wanted.str()}));
  start();
  EXPECT_EQ(address_of("zzz"), wanted);
  EXPECT_NE(address_of("aaa"), wanted);
}

TEST_F(ManifestsTest, AConflictFailsOneServiceUntilItIsResolved) {
  services.upsert("default/first", service("first", {"10.96.0.10"}));
  services.upsert("default/second", service("second", {"10.96.0.10"}));
  start();
  EXPECT_EQ(address_of("first"), ip("10.96.0.10"));
  EXPECT_EQ(balancer.backends("default/second:80/TCP/4"), "-");
  EXPECT_NE(ask("services.sync").value()["failing"]["default/second"].get<std::string>().find("default/first"),
            std::string::npos);
  EXPECT_FALSE(ask("services.sync").value()["synced"]);
  services.erase("default/first");
  loop.poll();  // at once, not by back-off
  EXPECT_EQ(address_of("second"), ip("10.96.0.10"));
}

TEST_F(ManifestsTest, WhatWasInForceFollowsItsEndpointsWhileTheDeclaredAddressConflicts) {
  services.upsert("default/first", service("first", {"10.96.0.10"}));
  services.upsert("default/web", service("web", {"10.96.0.11"}));
  list("web", {"10.0.0.1", "10.0.0.2"});
  start();
  services.upsert("default/web", service("web", {"10.96.0.10"}));
  list("web", {"10.0.0.2"});
  loop.poll();
  EXPECT_EQ(address_of("web"), ip("10.96.0.11"));
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.2");
}

TEST_F(ManifestsTest, AFileThatCannotBeWrittenIsAFailureOfItsOwn) {
  std::filesystem::remove_all(dir);
  services.upsert("default/web", service("web", {}));
  start();
  EXPECT_EQ(balancer.entries.size(), 1U);
  EXPECT_TRUE(ask("services.sync").value()["failing"].contains("cluster-ips-file"));
  std::filesystem::create_directories(dir);
  while (!domain->health().synced) loop.poll();  // by back-off
  EXPECT_TRUE(std::filesystem::exists(path));
}

// The whole way of a node that lives on manifests: no slice but those made here.
TEST_F(ManifestsTest, PodsBecomeBackendsByWayOfSlices) {
  std::optional<SliceController> controller;
  controller.emplace(loop, SliceController::Deps{.services = service_table.reader(),
                                                 .pods = pod_table.reader(),
                                                 .slices = slice_table.writer("api"),
                                                 .node = "node-1",
                                                 .zone = "",
                                                 .families = {Family::kV4}});
  make();
  services.upsert("default/web", service("web", {}));
  pods.upsert("a", pod("a", "web", {"10.0.0.1"}));
  pods.upsert("b", pod("b", "web", {"10.0.0.2"}));
  services.set_complete();
  loop.poll();
  EXPECT_TRUE(balancer.calls.empty());
  pods.set_complete();
  nodes.set_complete();
  host_ports.set_complete();
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.1 10.0.0.2");
  auto leaving = pod("a", "web", {"10.0.0.1"});
  leaving.terminating = true;
  const Revision revision = pods.upsert("a", leaving);
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.2");
  EXPECT_EQ(heard().value().revision, revision);
  pods.erase("a");
  pods.upsert("c", pod("c", "web", {"10.0.0.3"}));
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.2 10.0.0.3");
  pods.upsert("a", pod("a", "web", {"10.0.0.1"}));  // the same manifest again: the same uid
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.1 10.0.0.2 10.0.0.3");
}

}  // namespace
}  // namespace fairlead::services
