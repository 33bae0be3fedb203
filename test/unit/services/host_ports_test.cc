// SPDX-License-Identifier: Apache-2.0
#include "agent/services/host_ports.h"

#include "test/unit/services/services_fixture.h"

namespace fairlead::services {
namespace {

model::HostPort row(const std::vector<std::string>& pods, const char* address = "") {
  model::HostPort out{.pod = {"default", "web", "u"},
                      .protocol = Protocol::kUdp,
                      .host_address = std::nullopt,
                      .host_port = 53,
                      .container_port = 5353,
                      .pod_addresses = {}};
  if (*address != '\0') out.host_address = ip(address);
  for (const std::string& pod : pods) out.pod_addresses.push_back(ip(pod));
  return out;
}

TEST(HostPorts, OneEntryOfEachFamilyOnTheNodesAddresses) {
  const std::vector<IpAddress> node{ip("192.0.2.1"), ip("2001:db8::1"), ip("192.0.2.1"), ip("192.0.2.9")};
  const auto entries = compute_host_port("hostPort:a", row({"10.0.0.2", "fd00::2"}), node);
  ASSERT_EQ(entries.size(), 2U);
  const datapath::ServiceEntry& v4 = entries.at("hostPort:a/4");
  EXPECT_EQ(v4.frontends, (std::vector<datapath::Frontend>{{ip("127.0.0.1"), 53, Protocol::kUdp},
                                                           {ip("192.0.2.1"), 53, Protocol::kUdp},
                                                           {ip("192.0.2.9"), 53, Protocol::kUdp}}));
  EXPECT_EQ(v4.backends, (std::vector<datapath::Backend>{{ip("10.0.0.2"), 5353}}));
  EXPECT_TRUE(v4.shares_addresses) << "the node's other ports are its own";
  EXPECT_EQ(
      entries.at("hostPort:a/6").frontends,
      (std::vector<datapath::Frontend>{{ip("::1"), 53, Protocol::kUdp}, {ip("2001:db8::1"), 53, Protocol::kUdp}}));
  for (const auto& [name, entry] : entries) EXPECT_EQ(host_port_key(name), "hostPort:a");
}

TEST(HostPorts, ACertainAddressIsServedAlone) {
  const auto entries = compute_host_port("hostPort:a", row({"10.0.0.2", "fd00::2"}, "192.0.2.7"), {ip("192.0.2.1")});
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries.begin()->second.frontends,
            (std::vector<datapath::Frontend>{{ip("192.0.2.7"), 53, Protocol::kUdp}}));
  EXPECT_TRUE(compute_host_port("hostPort:a", row({"fd00::2"}, "192.0.2.7"), {ip("192.0.2.1")}).empty());
}

TEST_F(ServicesTest, HostPortsComeAndGoWithTheirRows) {
  host_ports.upsert("a/eth0:*:53/UDP", row({"10.0.0.2"}));
  start();
  EXPECT_EQ(balancer.backends("hostPort:a/eth0:*:53/UDP/4"), "10.0.0.2");
  host_ports.upsert("b/eth0:*:54/UDP", row({"10.0.0.3"}));
  loop.poll();
  EXPECT_EQ(balancer.backends("hostPort:b/eth0:*:54/UDP/4"), "10.0.0.3");
  host_ports.erase("a/eth0:*:53/UDP");
  loop.poll();
  EXPECT_EQ(balancer.backends("hostPort:a/eth0:*:53/UDP/4"), "-");
}

TEST_F(ServicesTest, NothingUnclaimedIsRemovedBeforeHostPortsAreKnown) {
  make();
  declare("web", 10, {"10.0.0.1"});
  services.set_complete();
  slices.set_complete();
  pods.set_complete();
  nodes.set_complete();
  loop.poll();
  EXPECT_EQ(balancer.calls, std::vector<std::string>{"apply default/web:80/TCP/4"});  // which need not wait for them
  EXPECT_EQ(ask("services.sync").value()["missing"], Json{"HostPort"});
  balancer.calls.clear();
  host_ports.upsert("a/eth0:*:53/UDP", row({"10.0.0.2"}));
  host_ports.set_complete();
  loop.poll();
  EXPECT_EQ(balancer.calls, (std::vector<std::string>{"apply hostPort:a/eth0:*:53/UDP/4", "remove_unclaimed"}));
  balancer.calls.clear();
  host_ports.erase("a/eth0:*:53/UDP");
  loop.poll();
  EXPECT_EQ(balancer.calls, std::vector<std::string>{"remove hostPort:a/eth0:*:53/UDP/4"});  // no more than that
}

TEST_F(ServicesTest, WhatNobodyClaimsGoesOnceHostPortsAreLate) {
  pods_patience = Duration(0);
  make();
  services.set_complete();
  slices.set_complete();
  pods.set_complete();
  nodes.set_complete();
  loop.poll();
  EXPECT_EQ(balancer.calls, std::vector<std::string>{"remove_unclaimed"});
}

TEST_F(ServicesTest, AHostPortFollowsTheNodesAddresses) {
  host_ports.upsert("a/eth0:*:53/UDP", row({"10.0.0.2"}));
  start();
  nodes.upsert("node-1", {"node-1", "", {}, {}, {ip("192.0.2.200")}});
  loop.poll();
  EXPECT_EQ(balancer.entries.at("hostPort:a/eth0:*:53/UDP/4").frontends.size(), 3U);
}

TEST_F(ServicesTest, AHostPortThatFailsIsTriedAgainAndTold) {
  balancer.full.insert("hostPort:a/eth0:*:53/UDP/4");
  host_ports.upsert("a/eth0:*:53/UDP", row({"10.0.0.2"}));
  start();
  EXPECT_TRUE(ask("services.sync").value()["failing"].contains("hostPort:a/eth0:*:53/UDP"));
}

}  // namespace
}  // namespace fairlead::services
