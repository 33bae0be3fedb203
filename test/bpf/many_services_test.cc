// SPDX-License-Identifier: Apache-2.0
// No table ends at 64k: Services with more backends than that, and more Services than that.
#include <set>

#include "test/bpf/packet_path_fixture.h"

namespace fairlead::datapath {
namespace {

constexpr std::uint32_t kMany = 100'000;
constexpr std::uint32_t kSixtyFourK = 65'536;
constexpr std::uint16_t kPort = 80;
constexpr std::uint16_t kTarget = 8080;

// The n-th address from `first` on.
IpAddress address(std::uint32_t first, std::uint32_t n) {
  const std::uint32_t value = first + n;
  return IpAddress::from_v4({static_cast<std::uint8_t>(value >> 24), static_cast<std::uint8_t>(value >> 16),
                             static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)});
}
constexpr std::uint32_t kFirstBackend = 10U << 24 | 128U << 16;
constexpr std::uint32_t kFirstService = 10U << 24 | 96U << 16;

// Which backend a packet was sent to, by its number; kMany: none.
std::uint32_t backend_of(const Verdict& verdict) {
  if (verdict.action != TC_ACT_OK || verdict.packet.size() < 34) return kMany;
  const auto* destination = &verdict.packet[30];
  const std::uint32_t value = static_cast<std::uint32_t>(destination[0]) << 24 |
                              static_cast<std::uint32_t>(destination[1]) << 16 |
                              static_cast<std::uint32_t>(destination[2]) << 8 | destination[3];
  return std::min(value - kFirstBackend, kMany);
}

class ManyServices : public PacketPath {
 protected:
  static ServiceEntry entry(std::uint32_t service, Balancing balancing, std::uint32_t first, std::uint32_t backends) {
    ServiceEntry out;
    out.frontends = {{address(kFirstService, service), kPort, Protocol::kUdp}};
    out.balancing = balancing;
    for (std::uint32_t i = 0; i < backends; ++i) out.backends.push_back({address(kFirstBackend, first + i), kTarget});
    return out;
  }
  static void apply(const std::string& name, const ServiceEntry& wanted) {
    const auto applied = balancer_->apply(name, wanted);
    ASSERT_TRUE(applied) << applied.error().message();
    served_.push_back(name);
  }
  static std::uint32_t chosen(const Pod& pod, std::uint32_t service, std::uint16_t source_port) {
    return backend_of(from_pod(pod, sent(pod, address(kFirstService, service), testkit::udp(source_port, kPort))));
  }
  // From one client's many ports.
  static std::set<std::uint32_t> chosen_by_flows(std::uint32_t service, int flows) {
    std::set<std::uint32_t> out;
    for (int i = 0; i < flows; ++i) out.insert(chosen(a_, service, static_cast<std::uint16_t>(10'000 + i)));
    return out;
  }
};

TEST_F(ManyServices, OneServiceHasManyBackends) {
  for (const Balancing balancing : {Balancing::kRandom, Balancing::kMaglev}) {
    SCOPED_TRACE(static_cast<int>(balancing));
    apply("big", entry(1, balancing, 0, kMany));
    const std::set<std::uint32_t> seen = chosen_by_flows(1, 2000);
    EXPECT_FALSE(seen.contains(kMany)) << "a packet that reached no backend";
    EXPECT_GT(seen.size(), 1900U);
    // A third of them is beyond.
    EXPECT_GT(std::distance(seen.lower_bound(kSixtyFourK), seen.end()), 500);
    EXPECT_GT(std::distance(seen.begin(), seen.lower_bound(kSixtyFourK)), 1000);
  }
}

TEST_F(ManyServices, EachClientKeepsItsBackendOfMany) {
  apply("other", entry(2, Balancing::kMaglev, 0, 4));  // the big one is not alone
  apply("big", entry(1, Balancing::kSourceHash, 0, kMany));
  std::vector<Pod> clients;
  for (std::uint8_t i = 10; i < 50; ++i) clients.push_back(path_->make_pod(i).value());
  std::map<std::uint8_t, std::uint32_t> before;
  std::size_t beyond = 0;
  for (const Pod& client : clients) {
    const std::uint32_t first = chosen(client, 1, 1000);
    ASSERT_LT(first, kMany);
    EXPECT_EQ(chosen(client, 1, 2000), first);
    before[client.endpoint.mac[5]] = first;
    beyond += first >= kSixtyFourK ? 1 : 0;
  }
  EXPECT_GT(beyond, 3U);
  // A changed set is written beside the old one, and moves few clients.
  apply("big", entry(1, Balancing::kSourceHash, 0, kMany - 10));
  std::size_t moved = 0;
  for (const Pod& client : clients) moved += chosen(client, 1, 3000) == before[client.endpoint.mac[5]] ? 0 : 1;
  EXPECT_LT(moved, 4U);
  for (const Pod& client : clients) EXPECT_TRUE(path_->pods().erase(client.endpoint.ifindex));
}

TEST_F(ManyServices, ManyServices) {
  for (std::uint32_t i = 1; i <= kMany; ++i) {
    ASSERT_NO_FATAL_FAILURE(apply(std::to_string(i), entry(i, Balancing::kRandom, i % kMany, 1)));
  }
  for (const std::uint32_t service : {1U, 1000U, kSixtyFourK - 1, kSixtyFourK, kSixtyFourK + 1, kMany - 1}) {
    EXPECT_EQ(chosen(a_, service, 1000), service);
  }
}

}  // namespace
}  // namespace fairlead::datapath
