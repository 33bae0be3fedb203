// SPDX-License-Identifier: Apache-2.0
// The oracle, sampled with real probes: random policies and labels through a real API server to two real agents, and
// after each change what TCP and UDP between all pods get through is what the plain model of NetworkPolicy says.
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "test/model/policy_generator.h"
#include "test/netns/policy_agents.h"
#include "test/netns/probe_round.h"

namespace fairlead {
namespace {

using model::PolicyWorld;
using testkit::eventually;

constexpr unsigned kRounds = 60;
constexpr unsigned kSeed = 20261129;

// Around the addresses of this bed's pods.
const model::Blocks kBedBlocks{
    {"0.0.0.0/0", {}},       {"0.0.0.0/0", {"10.244.0.0/16"}},          {"10.244.0.0/16", {"10.244.1.0/24"}},
    {"10.244.2.0/24", {}},   {"10.244.1.0/29", {"10.244.1.2/32"}},      {"::/0", {"fd00:244:1::/64"}},
    {"fd00:244:2::/64", {}}, {"fd00:244:1::/64", {"fd00:244:1::2/128"}}};

class PolicyOracle : public PolicyAgents {
 protected:
  static void SetUpTestSuite() {
    PolicyAgents::SetUpTestSuite();
    ASSERT_NE(bed, nullptr);
    for (const std::string& ns : model::kProbedNamespaces) {
      ASSERT_TRUE(bed->create_namespace(ns));
      world.namespaces[ns]["kubernetes.io/metadata.name"] = ns;
    }
    for (unsigned i = 0; i < kPods; ++i) {
      const std::string& ns = model::kProbedNamespaces[i % model::kProbedNamespaces.size()];
      PolicyWorld::Pod pod{ns, fmt::format("p{}", i), generator.labels(), {}, generator.named_ports()};
      const std::string key = ns + "/" + pod.name;
      std::vector<testkit::NamedPort> ports;
      for (const auto& port : pod.ports) ports.push_back({port.name, port.protocol, port.number});
      add_pod(1 + i % 2, key, pod.labels, ports);
      for (const Family family : kFamilies) pod.ips.push_back(bed->pod(key).address(family));
      world.pods[key] = std::move(pod);
    }
  }
  static void TearDownTestSuite() {
    world = {};
    PolicyAgents::TearDownTestSuite();
  }

  // One thing that happens, to the cluster and to the model.
  void change() {
    const std::size_t what = generator.below(10);
    if (what < 7) {
      const std::string key = generator.pick(model::kProbedNamespaces) + "/policy" + std::to_string(generator.below(3));
      if (world.policies.contains(key) && generator.chance(25)) {
        ASSERT_TRUE(bed->delete_policy(key));
        world.policies.erase(key);
        policies_.erase(key);
        return;
      }
      world.policies[key] = generator.policy(key);
      const auto put = bed->put_policy(key, world.policies[key]);
      ASSERT_TRUE(put) << why(put);
      policies_.insert(key);
      coverage.count(world.policies[key]);
    } else if (what < 9) {
      auto& pod = std::next(world.pods.begin(), static_cast<std::ptrdiff_t>(generator.below(kPods)))->second;
      pod.labels = generator.labels();
      ASSERT_TRUE(bed->set_labels(pod.ns + "/" + pod.name, pod.labels));
    } else {
      const std::string& ns = generator.pick(model::kProbedNamespaces);
      world.namespaces[ns] = {{"kubernetes.io/metadata.name", ns}, {"team", generator.chance(50) ? "x" : "y"}};
      ASSERT_TRUE(bed->set_namespace_labels(ns, world.namespaces[ns]));
    }
  }

  static bool allows(const PolicyWorld::Pod& from, const PolicyWorld::Pod& to, std::size_t family,
                     const model::ProbedPort& port) {
    return world.allows_egress(from, to.ips[family], port.name, port.number) &&
           world.allows_ingress(to, from.ips[family], port.name, port.number);
  }
  // Every pod with every other, by both families, on every port of TCP and UDP.
  static std::vector<testkit::PlannedProbe> plan() {
    std::vector<testkit::PlannedProbe> all;
    for (const auto& [from_key, from] : world.pods) {
      for (const auto& [to_key, to] : world.pods) {
        if (from_key == to_key) continue;
        for (std::size_t family = 0; family < 2; ++family) {
          for (const model::ProbedPort& port : model::kProbedPorts) {
            if (port.protocol == IPPROTO_SCTP) continue;  // no such sockets on every kernel
            all.push_back(
                {from_key, to_key, {to.ips[family], port.number}, port.protocol, allows(from, to, family, port)});
          }
        }
      }
    }
    return all;
  }

  static constexpr unsigned kPods = 6;
  static inline model::PolicyGenerator generator{kSeed, kBedBlocks};
  static inline PolicyWorld world;
  static inline model::Coverage coverage;
};

TEST_F(PolicyOracle, ProbesGetThroughWhereTheModelSaysSo) {
  testkit::ProbeTargets targets;
  for (const auto& [key, pod] : world.pods) {
    for (const model::ProbedPort& port : model::kProbedPorts) {
      if (port.protocol == IPPROTO_SCTP) continue;
      const auto serves = targets.serve(bed->pod(key), key, port.protocol, port.number);
      ASSERT_TRUE(serves) << key << " " << port.number << ": " << why(serves);
    }
  }
  std::size_t allowed = 0, denied = 0;
  for (unsigned round = 0; round < kRounds; ++round) {
    for (std::size_t changes = 1 + generator.below(3); changes > 0; --changes) ASSERT_NO_FATAL_FAILURE(change());
    const auto probes = plan();
    std::vector<std::string> wrong;
    // The agents hear of it in a moment; then every probe must be as the model says, in one and the same round.
    EXPECT_TRUE(eventually([&] {
      wrong = targets.differences(bed->pods(), probes);
      return wrong.empty();
    })) << "round "
        << round << ": " << wrong.size() << " of " << probes.size() << " probes, as " << wrong.front();
    ASSERT_FALSE(HasFailure());
    for (const auto& probe : probes) ++(probe.allowed ? allowed : denied);
  }
  // Both are worth something.
  EXPECT_GT(allowed, kRounds * 50);
  EXPECT_GT(denied, kRounds * 50);
  for (const char* part : {"named port", "endPort", "except", "ipBlock, ingress", "ipBlock, egress",
                           "both selectors, ingress", "NotIn", "policyTypes, both"}) {
    EXPECT_TRUE(coverage.counts().contains(part)) << part;
  }
}

}  // namespace
}  // namespace fairlead
