// SPDX-License-Identifier: Apache-2.0
// How large packets between nodes (nodes_fixture.h) may be, also where that changes, and how fast limited pods are.
#include <cerrno>

#include "test/kit/tcp_rate.h"
#include "test/netns/nodes_fixture.h"

namespace fairlead {
namespace {

using testing::HasSubstr;
using testkit::Endpoint;
using testkit::eventually;
using testkit::kPodPort;
using testkit::PodNetns;
using testkit::Stream;

template <class Mode>
class NodesLimitsTest : public Nodes<Mode> {
 protected:
  // Both uplinks take packets so large; returns once the agents know.
  static void set_uplinks(unsigned mtu) {
    const unsigned pods = mtu - 1500 + Mode::kMtu;
    for (const unsigned number : {1U, 2U}) {
      const auto& node = Nodes<Mode>::bed->node(number);
      const auto done = node.ip(fmt::format("link set eth0 mtu {}", mtu));
      ASSERT_EQ(done.code, 0) << done.output;
      EXPECT_TRUE(eventually([&] {
        return node.ctl("status").value(Json::json_pointer("/components/routing/mtu"), 0U) == pods && node.synced();
      })) << node.ctl("status").dump();
    }
  }
};
TYPED_TEST_SUITE(NodesLimitsTest, NodesModes);

TYPED_TEST(NodesLimitsTest, ASmallerUplinkIsLearnedByPodsAndHoldsForNewOnes) {
  constexpr unsigned kSmaller = TypeParam::kMtu - 100;
  this->set_uplinks(1400);
  const PodNetns& from = this->pod("a1").netns();
  for (const Family family : this->families()) {
    const Endpoint to{this->pod("b1").address(family), kPodPort};
    const auto mtu = in(from, [&] { return testkit::learn_mtu(to, TypeParam::kMtu - 60); });
    EXPECT_EQ(mtu.value_or(0), static_cast<int>(kSmaller)) << why(mtu);
    auto stream = in(from, [&] { return Stream::connect(to); });
    ASSERT_TRUE(stream) << why(stream);
    const auto exchanged = stream->exchange(1U << 20);
    EXPECT_TRUE(exchanged) << why(exchanged);
    const auto fragments = in(from, [&] { return testkit::ask_datagram(to, 6000); });
    EXPECT_TRUE(fragments) << why(fragments);
    const auto pong = in(from, [&] { return testkit::ping(to.address, 3000); });
    EXPECT_TRUE(pong) << why(pong);
  }
  this->add_pod(1, "late");
  const auto link =
      testkit::run_command(fmt::format("nsenter --net={} ip link show eth0", this->pod("late").netns().path()));
  EXPECT_THAT(link.output, HasSubstr(fmt::format("mtu {} ", kSmaller)));
  EXPECT_TRUE(this->bed->node(1).delete_pod(this->pod("late")));
  this->pods.erase("late");
  this->set_uplinks(1500);
}

// Within 5 %, over the real paths: the limit is what is slow, not the machine.
TYPED_TEST(NodesLimitsTest, ALimitedPodGetsAndSendsAtItsRate) {
  constexpr unsigned kRate = 20'000'000;
  constexpr std::size_t kSkipped = 2U << 20;
  constexpr std::size_t kBytes = 8U << 20;
  this->add_pod(1, "slow", {{"bandwidth", {{"ingressRate", kRate}, {"egressRate", kRate}}}});
  const PodNetns& slow = this->pod("slow").netns();
  const PodNetns& other = this->pod("b1").netns();
  std::uint16_t port = 6000;
  for (const Family family : this->families()) {
    const Endpoint here{this->pod("slow").address(family), ++port};
    const auto gets = testkit::tcp_rate(other, slow, here, kSkipped, kBytes);
    ASSERT_TRUE(gets) << why(gets);
    EXPECT_NEAR(*gets, kRate, 0.05 * kRate) << to_string(here);
    const Endpoint there{this->pod("b1").address(family), port};
    const auto sends = testkit::tcp_rate(slow, other, there, kSkipped, kBytes);
    ASSERT_TRUE(sends) << why(sends);
    EXPECT_NEAR(*sends, kRate, 0.05 * kRate) << to_string(there);
  }
  EXPECT_TRUE(this->bed->node(1).delete_pod(this->pod("slow")));
  this->pods.erase("slow");
}

}  // namespace
}  // namespace fairlead
