// SPDX-License-Identifier: Apache-2.0
// Bandwidth limits of pods, measured by real TCP: one node, its agent in this process, the real plugin.
//
//   node ──────▶ limited pod      other pod ──────▶ limited pod      limited pod ──────▶ node
#include <gmock/gmock.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "agent/netlink/netns.h"
#include "agent/netlink/token_bucket.h"
#include "agent/network/pod_link.h"
#include "test/kit/process.h"
#include "test/netns/pod_network_fixture.h"

namespace fairlead::network {
namespace {

using testing::HasSubstr;
using testkit::eventually;
using testkit::PodNetns;

constexpr std::uint64_t kRate = 10'000'000;  // bits a second: the limit, not the machine, is what is slow

IpAddress ip(const std::string& text) {
  return IpAddress::parse(text).value();
}

// What a sender had acknowledged at a time, which is known to 5 ms.
struct Sample {
  std::chrono::steady_clock::time_point at;
  std::uint64_t acked = 0;
  std::uint32_t mss = 0;
};

Sample sample(int fd) {
  while (true) {
    const auto before = std::chrono::steady_clock::now();
    tcp_info info{};
    socklen_t size = sizeof(info);
    EXPECT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    if (std::chrono::steady_clock::now() - before < std::chrono::milliseconds(5)) {
      return {before, info.tcpi_bytes_acked, info.tcpi_snd_mss};
    }
  }
}

// Bits a second of frames in steady state: once the first burst is through, over as many bytes as take some seconds.
// Buffers hold seconds' worth, so that neither end's thread has to run in time.
double measured(const Connection& connection, int headers) {
  constexpr int kBuffer = 8 << 20;
  setsockopt(connection.client.get(), SOL_SOCKET, SO_SNDBUFFORCE, &kBuffer, sizeof(kBuffer));
  setsockopt(connection.server.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kBuffer, sizeof(kBuffer));
  std::atomic<bool> over = false;
  std::jthread sender([&] {
    const std::vector<char> block(64 << 10);
    while (!over) (void)send(connection.client.get(), block.data(), block.size(), MSG_NOSIGNAL);
  });
  std::jthread receiver([&] {
    std::vector<char> block(256 << 10);
    while (!over) (void)recv(connection.server.get(), block.data(), block.size(), 0);
  });
  const auto acked = [&](std::uint64_t bytes) {
    return eventually([&] { return sample(connection.client.get()).acked >= bytes; }, std::chrono::minutes(2));
  };
  EXPECT_TRUE(acked(1'500'000));
  const Sample first = sample(connection.client.get());
  EXPECT_TRUE(acked(first.acked + 8'000'000));
  const Sample last = sample(connection.client.get());
  over = true;
  shutdown(connection.client.get(), SHUT_RDWR);
  shutdown(connection.server.get(), SHUT_RDWR);
  const double seconds = std::chrono::duration<double>(last.at - first.at).count();
  const auto payload = static_cast<double>(last.acked - first.acked);
  return payload * (last.mss + headers) / last.mss * 8 / seconds;
}

constexpr int kHeaders4 = 14 + 20 + 32;
constexpr int kHeaders6 = 14 + 40 + 32;

class BandwidthTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto entered = testkit::enter_node_namespace("bandwidth");
    ASSERT_TRUE(entered) << entered.error().message();
    auto socket = netlink::Socket::open().value();
    const std::uint32_t loopback = socket.find_link("lo").value().ifindex;
    ASSERT_TRUE(socket.add_address(loopback, ip("10.0.0.1")));
    ASSERT_TRUE(socket.add_address(loopback, ip("fd00:ffff::1")));
  }

  void SetUp() override {
    start();
    add("other", other_, {});
  }
  void start() {
    node_ = std::make_unique<Node>("10.1.0.0/24,fd00:1::/64", sockets_);
    ASSERT_TRUE(node_->started) << node_->started.error().message();
  }
  void TearDown() override {
    const Json left = node_->ask("endpoint.list", {}).value();
    for (const Json& endpoint : left) EXPECT_TRUE(node_->ask("cni.del", endpoint));
    node_.reset();
    std::filesystem::remove(testkit::folder() + "/ipam.json");
  }

  static std::vector<IpAddress> add(const std::string& name, const PodNetns& netns, const Json& bandwidth) {
    Json configuration = plugin_configuration();
    if (!bandwidth.is_null()) configuration["runtimeConfig"]["bandwidth"] = bandwidth;
    const PluginResult added = run_plugin("ADD", name, netns.path(), configuration.dump());
    EXPECT_EQ(added.exit_code, 0) << added.output;
    std::vector<IpAddress> addresses;
    for (const Json& each : added.output.value("ips", Json::array())) {
      addresses.push_back(Cidr::parse(each["address"].get<std::string>()).value().base());
    }
    return addresses;
  }
  static PluginResult check(const std::string& name, const PodNetns& netns, const std::vector<IpAddress>& addresses) {
    Attachment attachment{.container = name, .ifname = "eth0", .netns = netns.path()};
    attachment.addresses = addresses;
    Json configuration = plugin_configuration();
    configuration["prevResult"] = cni_result(attachment, 1450);
    return run_plugin("CHECK", name, netns.path(), configuration.dump());
  }

  FakeSocketClients sockets_;
  std::unique_ptr<Node> node_;
  PodNetns pod_ = PodNetns::make("limited").value();
  PodNetns other_ = PodNetns::make("other").value();
};

#define EXPECT_RATE(value) EXPECT_NEAR(value, static_cast<double>(kRate), 0.05 * static_cast<double>(kRate))

TEST_F(BandwidthTest, WhatAPodGetsFromTheNodeAndFromPods) {
  // The burst is what containerd asks for with the annotation.
  const auto addresses = add("limited", pod_, {{"ingressRate", kRate}, {"ingressBurst", 4294967295U}});
  const auto from_node = connect_tcp(nullptr, &pod_, addresses[0]);
  ASSERT_TRUE(from_node);
  EXPECT_RATE(measured(*from_node, kHeaders4));
  const auto from_pod = connect_tcp(&other_, &pod_, addresses[1]);
  ASSERT_TRUE(from_pod);
  EXPECT_RATE(measured(*from_pod, kHeaders6));
}

TEST_F(BandwidthTest, WhatAPodSends) {
  add("limited", pod_, {{"egressRate", kRate}});
  const auto to_node = connect_tcp(&pod_, nullptr, ip("10.0.0.1"));
  ASSERT_TRUE(to_node);
  EXPECT_RATE(measured(*to_node, kHeaders4));
}

TEST_F(BandwidthTest, LimitsOutliveTheAgentAndAreLookedAfter) {
  const auto addresses = add("limited", pod_, {{"ingressRate", kRate}, {"egressRate", 2 * kRate}});
  EXPECT_EQ(check("limited", pod_, addresses).exit_code, 0);
  const Json endpoint = node_->ask("endpoint.get", {{"name", "limited"}}).value();
  EXPECT_EQ(endpoint["runtimeConfig"]["bandwidth"], (Json{{"ingressRate", kRate}, {"egressRate", 2 * kRate}}));
  auto host = netlink::Socket::open().value();
  auto inside = netlink::open_netns(pod_.path()).value();
  const std::uint32_t device = endpoint["ifindex"];
  const std::uint32_t eth0 = inside.socket.find_link("eth0").value().ifindex;
  EXPECT_EQ(netlink::token_bucket_rate(host, device).value(), kRate / 8);
  EXPECT_EQ(netlink::token_bucket_rate(inside.socket, eth0).value(), 2 * kRate / 8);
  node_.reset();
  ASSERT_TRUE(netlink::set_token_bucket(host, device, token_bucket(kRate * 100, 0)));
  start();
  EXPECT_EQ(netlink::token_bucket_rate(host, device).value(), kRate / 8) << "put back";
  ASSERT_TRUE(netlink::set_token_bucket(inside.socket, eth0, token_bucket(kRate * 100, 0)));
  const PluginResult undone = check("limited", pod_, addresses);
  EXPECT_EQ(undone.output["code"], 100);
  EXPECT_THAT(undone.output.value("msg", ""), HasSubstr("what the pod sends"));
}

}  // namespace
}  // namespace fairlead::network
