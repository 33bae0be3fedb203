// SPDX-License-Identifier: Apache-2.0
// What the policy domain writes, against the plain model of NetworkPolicy: random pods, namespaces and policies,
// changed one at a time, and after each change every pod of this node with every address, port and protocol, both ways.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "test/model/policy.h"
#include "test/model/policy_generator.h"
#include "test/unit/policy/domain.h"

namespace fairlead::policy {
namespace {

using World = model::PolicyWorld;
using Port = model::ProbedPort;
using model::kProbedPorts;
const std::vector<std::string>& kNamespaces = model::kProbedNamespaces;

const std::vector<std::string> kOutside{"192.0.2.1",  "192.0.2.130", "198.51.100.7",  "10.9.9.9",
                                        "10.0.1.200", "2001:db8::1", "2001:db8:1::1", "fd00:9::9",
                                        "172.16.0.1", "172.16.0.2",  "fd00:16::1"};

// The same world twice: as the model has it and as the domain hears of it.
class ModelTest : public testing::TestWithParam<unsigned> {
 protected:
  static constexpr unsigned kOwn = 3;
  static constexpr unsigned kPods = 9;

  ModelTest() {
    world_.node_addresses = domain_.node_addresses;
    for (const std::string& ns : kNamespaces) world_.namespaces[ns]["kubernetes.io/metadata.name"] = ns;
    for (unsigned i = 0; i < kPods; ++i) put_pod(i);
    domain_.complete();
    domain_.start();
    domain_.turn();
    domain_.maps.on_write = [this] { check_between(); };
  }

  std::string key_of(unsigned number) {
    return kNamespaces[number % kNamespaces.size()] + "/p" + std::to_string(number);
  }

  World::Pod random_pod(const std::string& ns, const std::string& name, unsigned number) {
    World::Pod pod{ns, name, generator_.labels(), {ip(fmt::format("10.0.{}.{}", 1 + number % 2, 2 + number))}, {}};
    if (number % 5 != 0) pod.ips.push_back(ip(fmt::format("fd00::{:x}", 2 + number)));
    pod.ports = generator_.named_ports();
    pod.host_network = generator_.chance(8);
    if (pod.ips.size() == 2) coverage_.count("a pod of both families");
    if (pod.host_network) coverage_.count("a pod on the host's network");
    return pod;
  }

  void put_pod(unsigned number) {
    const std::string key = key_of(number);
    World::Pod pod = random_pod(key.substr(0, key.find('/')), key.substr(key.find('/') + 1), number);
    k8s::Pod message = Domain::pod(key, pod.labels, pod.ips);
    message.mutable_spec()->set_hostnetwork(pod.host_network);
    auto& container = *message.mutable_spec()->add_containers();
    for (const World::Port& each : pod.ports) {
      auto& port = *container.add_ports();
      port.set_name(each.name);
      port.set_protocol(each.protocol);
      port.set_containerport(each.number);
    }
    message.mutable_spec()->set_nodename(number < kOwn ? "n1" : "n2");
    if (number >= kOwn) {
      domain_.peer(message);
    } else if (pod.host_network) {
      domain_.own(message);
      domain_.endpoints.writer("network").erase("c-" + key);
    } else {
      domain_.own_with_endpoint(message);
    }
    world_.pods[key] = std::move(pod);
  }

  // One thing that happens in a cluster.
  void change() {
    const std::size_t what = generator_.below(100);
    if (what < 60) {
      const std::string key = generator_.pick(kNamespaces) + "/policy" + std::to_string(generator_.below(3));
      if (generator_.chance(20)) {
        world_.policies.erase(key);
        domain_.policies.writer("api").erase(key);
      } else {
        world_.policies[key] = generator_.policy(key);
        domain_.policy(key, world_.policies[key]);
        coverage_.count(world_.policies[key]);
        ++generated_;
      }
    } else if (what < 75) {
      put_pod(kOwn + static_cast<unsigned>(generator_.below(kPods - kOwn)));
    } else if (what < 85) {
      put_pod(static_cast<unsigned>(generator_.below(kOwn)));
    } else if (what < 93) {
      const std::string& ns = generator_.pick(kNamespaces);
      auto& labels = world_.namespaces[ns];
      labels["team"] = generator_.chance(50) ? "x" : "y";
      if (generator_.chance(20)) labels.erase("team");
      domain_.name_space(ns, labels);
    } else {
      const std::string key = key_of(kOwn + static_cast<unsigned>(generator_.below(kPods - kOwn)));
      world_.pods.erase(key);
      domain_.peers.writer("api").erase(key);
    }
  }

  std::vector<IpAddress> peers() const {
    std::vector<IpAddress> all;
    for (const std::string& address : kOutside) all.push_back(ip(address));
    for (unsigned number = 0; number < kPods; ++number) {
      all.push_back(ip(fmt::format("10.0.{}.{}", 1 + number % 2, 2 + number)));
      all.push_back(ip(fmt::format("fd00::{:x}", 2 + number)));
    }
    return all;
  }

  struct Question {
    std::string pod;
    Direction direction;
    IpAddress peer;
    const Port* port;
  };
  void for_each_question(const std::function<void(const Question&)>& ask) const {
    const std::vector<IpAddress> all = peers();
    for (const auto& [key, pod] : world_.pods) {
      if (!domain_.row(key)) continue;
      for (const Direction direction : {Direction::kIngress, Direction::kEgress}) {
        for (const IpAddress& peer : all) {
          for (const Port& port : kProbedPorts) ask({key, direction, peer, &port});
        }
      }
    }
  }
  static bool by_model(const World& world, const Question& question) {
    const World::Pod& pod = world.pods.at(question.pod);
    return question.direction == Direction::kIngress
               ? world.allows_ingress(pod, question.peer, question.port->name, question.port->number)
               : world.allows_egress(pod, question.peer, question.port->name, question.port->number);
  }
  bool by_maps(const Question& question) const {
    return question.direction == Direction::kIngress
               ? domain_.ingress(question.pod, question.peer, question.port->protocol, question.port->number)
               : domain_.egress(question.pod, question.peer, question.port->protocol, question.port->number);
  }
  static std::string str(const Question& question) {
    return fmt::format("{} {} {} {}/{}", question.pod, question.direction == Direction::kIngress ? "from" : "to",
                       question.peer, question.port->number, question.port->name);
  }

  // While a change is under way: a packet is allowed only where the world before it or the one after it allows it.
  void check_between() {
    const std::vector<IpAddress> all = peers();
    for (int i = 0; i < 6; ++i) {
      const std::string pod = key_of(static_cast<unsigned>(sampler_.below(kOwn)));
      const Question question{pod, sampler_.chance(50) ? Direction::kIngress : Direction::kEgress, sampler_.pick(all),
                              &sampler_.pick(kProbedPorts)};
      if (!domain_.row(pod) || !by_maps(question)) continue;
      EXPECT_TRUE(by_model(before_, question) || by_model(world_, question))
          << str(question) << ": allowed in between, write " << domain_.maps.writes;
    }
  }

  // One change; where `restart`, it happens while no agent runs.
  void step(bool restart) {
    before_ = world_;
    std::map<std::string, std::uint64_t> revisions;
    for (const auto& [key, pod] : world_.pods) {
      if (const auto row = domain_.row(key)) revisions[key] = row->revision;
    }
    change();
    if (restart) domain_.start();
    domain_.turn();
    std::set<std::string> to_judge_again;
    for_each_question([&](const Question& question) {
      const bool expected = by_model(world_, question);
      EXPECT_EQ(by_maps(question), expected) << str(question);
      const bool changed_self = before_.pods.at(question.pod).host_network || world_.pods.at(question.pod).host_network;
      if (!expected && !changed_self && by_model(before_, question)) to_judge_again.insert(question.pod);
    });
    for (unsigned number = 0; number < kOwn; ++number) {
      const std::size_t policies = world_.policies_of(world_.pods.at(key_of(number)));
      if (policies > 1) coverage_.count("several policies of a pod");
      if (policies == 0) coverage_.count("a pod that no policy isolates");
    }
    if (restart) return;  // then all are judged again
    for (const std::string& key : to_judge_again) {
      EXPECT_GT(domain_.row(key)->revision, revisions[key]) << key << ": open connections would go on";
    }
  }

  model::PolicyGenerator generator_{GetParam()};
  model::PolicyGenerator sampler_{GetParam() + 1};
  model::Coverage coverage_;
  World world_;
  World before_;
  Domain domain_;
  std::size_t generated_ = 0;
};

constexpr unsigned kSeeds = 12;
constexpr unsigned kPolicySets = 1'000;  // of all seeds together, at the least

TEST_P(ModelTest, MapsSayWhatTheModelSays) {
  constexpr int kSteps = 230;
  for (int i = 0; i < kSteps && !HasFailure(); ++i) {
    SCOPED_TRACE(i);
    step(i % 7 == 3);
    if (i % 23 != 0) continue;
    // A restart finds all as it is, and writes nothing.
    const std::size_t writes = domain_.maps.writes;
    before_ = world_;
    domain_.start();
    domain_.turn();
    EXPECT_EQ(domain_.maps.writes, writes);
  }
  RecordProperty("policies", static_cast<int>(generated_));
  EXPECT_GE(generated_ * kSeeds, kPolicySets) << "each generated policy makes another set of them";
  EXPECT_THAT(coverage_.missing(), testing::IsEmpty());
  for (const std::string& ns : kNamespaces) {
    for (int i = 0; i < 3; ++i) domain_.policies.writer("api").erase(ns + "/policy" + std::to_string(i));
  }
  domain_.maps.on_write = nullptr;
  domain_.turn();
  EXPECT_TRUE(domain_.maps.contents.rules.empty()) << "what nobody uses is erased";
  EXPECT_TRUE(domain_.maps.contents.cidrs.empty());
}

INSTANTIATE_TEST_SUITE_P(Seeds, ModelTest, testing::Range(1U, 1 + kSeeds));

}  // namespace
}  // namespace fairlead::policy
