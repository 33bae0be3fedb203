// SPDX-License-Identifier: Apache-2.0
// What the policy domain writes, against the plain model of NetworkPolicy: random pods, namespaces and policies,
// changed one at a time, and after each change every pod of this node with every address, port and protocol, both ways.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "test/model/policy.h"
#include "test/unit/policy/domain.h"

namespace fairlead::policy {
namespace {

using World = model::PolicyWorld;

struct Port {
  const char* name;
  std::uint8_t protocol;
  std::uint16_t number;
};
constexpr Port kPorts[] = {{"TCP", 6, 80},  {"TCP", 6, 8080},  {"TCP", 6, 443},    {"UDP", 17, 53},
                           {"UDP", 17, 80}, {"UDP", 17, 8085}, {"SCTP", 132, 443}, {"TCP", 6, 65535}};
const std::vector<std::string> kNamespaces{"blue", "green", "red"};
const std::vector<std::string> kOutside{"192.0.2.1",  "192.0.2.130", "198.51.100.7",  "10.9.9.9",
                                        "10.0.1.200", "2001:db8::1", "2001:db8:1::1", "fd00:9::9",
                                        "172.16.0.1", "172.16.0.2",  "fd00:16::1"};
const std::vector<std::pair<std::string, std::vector<std::string>>> kBlocks{
    {"0.0.0.0/0", {}},
    {"0.0.0.0/0", {"10.0.0.0/8"}},
    {"0.0.0.0/0", {"192.0.2.0/24", "10.0.1.0/24"}},
    {"10.0.0.0/8", {"10.0.1.0/24"}},
    {"10.0.1.0/24", {}},
    {"10.0.1.0/28", {}},
    {"192.0.2.0/24", {"192.0.2.128/25"}},
    {"192.0.2.128/25", {}},
    {"192.0.2.1/32", {}},
    {"::/0", {"fd00::/16"}},
    {"fd00::/16", {}},
    {"2001:db8::/32", {"2001:db8:1::/48"}},
    {"2001:db8:1::1/128", {}}};

// Everything random comes from one seed.
class Generator {
 public:
  explicit Generator(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_); }
  bool chance(unsigned percent) { return below(100) < percent; }
  const auto& pick(const auto& values) { return values[below(std::size(values))]; }

  model::Labels labels() {
    model::Labels labels;
    if (chance(90)) labels["app"] = pick(kApps);
    if (chance(50)) labels["tier"] = pick(kTiers);
    return labels;
  }

  k8s::LabelSelector selector() {
    k8s::LabelSelector selector;
    if (chance(25)) return selector;
    if (chance(60)) (*selector.mutable_matchlabels())["app"] = pick(kApps);
    if (chance(50)) {
      auto& expression = *selector.add_matchexpressions();
      expression.set_key(chance(50) ? "app" : "tier");
      const char* op = pick(kOperators);
      expression.set_operator_(op);
      if (std::string_view(op).ends_with("In")) {
        expression.add_values(expression.key() == "app" ? pick(kApps) : pick(kTiers));
        if (chance(30)) expression.add_values("c");
      }
    }
    return selector;
  }

  k8s::NetworkPolicyPeer peer() {
    k8s::NetworkPolicyPeer peer;
    if (chance(35)) {
      const auto& [cidr, except] = pick(kBlocks);
      peer.mutable_ipblock()->set_cidr(cidr);
      for (const std::string& each : except) peer.mutable_ipblock()->add_except(each);
      return peer;
    }
    if (chance(50)) {
      auto& namespaces = *peer.mutable_namespaceselector();
      if (chance(40)) (*namespaces.mutable_matchlabels())["team"] = chance(50) ? "x" : "y";
      if (chance(20)) (*namespaces.mutable_matchlabels())["kubernetes.io/metadata.name"] = pick(kNamespaces);
    }
    if (!peer.has_namespaceselector() || chance(60)) *peer.mutable_podselector() = selector();
    return peer;
  }

  void add_ports(auto& rule) {
    for (std::size_t count = chance(35) ? 0 : 1 + below(3); count > 0; --count) {
      auto& port = *rule.add_ports();
      const Port& known = pick(kPorts);
      if (chance(80)) port.set_protocol(known.name);
      if (chance(15)) continue;
      if (chance(30)) {
        port.mutable_port()->set_type(1);
        port.mutable_port()->set_strval(chance(70) ? "http" : "dns");
        continue;
      }
      port.mutable_port()->set_type(0);
      port.mutable_port()->set_intval(known.number);
      if (chance(25)) port.set_endport(std::min(65535, known.number + static_cast<int>(below(9000))));
    }
  }

  k8s::NetworkPolicy policy(const std::string& key) {
    k8s::NetworkPolicy policy;
    policy.mutable_metadata()->set_namespace_(key.substr(0, key.find('/')));
    policy.mutable_metadata()->set_name(key.substr(key.find('/') + 1));
    auto& spec = *policy.mutable_spec();
    *spec.mutable_podselector() = selector();
    for (std::size_t count = below(3); count > 0; --count) {
      auto& rule = *spec.add_ingress();
      add_ports(rule);
      for (std::size_t peers = below(4); peers > 0; --peers) *rule.add_from() = peer();
    }
    for (std::size_t count = below(3); count > 0; --count) {
      auto& rule = *spec.add_egress();
      add_ports(rule);
      for (std::size_t peers = below(4); peers > 0; --peers) *rule.add_to() = peer();
    }
    if (chance(70)) {
      if (chance(70)) spec.add_policytypes("Ingress");
      if (chance(70) || spec.policytypes().empty()) spec.add_policytypes("Egress");
    }
    return policy;
  }

  World::Pod pod(const std::string& ns, const std::string& name, unsigned number) {
    World::Pod pod{ns, name, labels(), {ip(fmt::format("10.0.{}.{}", 1 + number % 2, 2 + number))}, {}};
    if (number % 5 != 0) pod.ips.push_back(ip(fmt::format("fd00::{:x}", 2 + number)));
    if (chance(60)) pod.ports.push_back({"http", "TCP", static_cast<std::uint16_t>(chance(50) ? 80 : 8080)});
    if (chance(30)) pod.ports.push_back({"dns", "UDP", 53});
    pod.host_network = chance(8);
    return pod;
  }

 private:
  static constexpr const char* kApps[] = {"a", "b", "c"};
  static constexpr const char* kTiers[] = {"f", "g"};
  static constexpr const char* kOperators[] = {"In", "NotIn", "Exists", "DoesNotExist"};
  std::mt19937 random_;
};

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

  void put_pod(unsigned number) {
    const std::string key = key_of(number);
    World::Pod pod = generator_.pod(key.substr(0, key.find('/')), key.substr(key.find('/') + 1), number);
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
          for (const Port& port : kPorts) ask({key, direction, peer, &port});
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
                              &sampler_.pick(kPorts)};
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
    if (restart) return;  // then all are judged again
    for (const std::string& key : to_judge_again) {
      EXPECT_GT(domain_.row(key)->revision, revisions[key]) << key << ": open connections would go on";
    }
  }

  Generator generator_{GetParam()};
  Generator sampler_{GetParam() + 1};
  World world_;
  World before_;
  Domain domain_;
  std::size_t generated_ = 0;
};

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
  EXPECT_GT(generated_, 80U);
  for (const std::string& ns : kNamespaces) {
    for (int i = 0; i < 3; ++i) domain_.policies.writer("api").erase(ns + "/policy" + std::to_string(i));
  }
  domain_.maps.on_write = nullptr;
  domain_.turn();
  EXPECT_TRUE(domain_.maps.contents.rules.empty()) << "what nobody uses is erased";
  EXPECT_TRUE(domain_.maps.contents.cidrs.empty());
}

INSTANTIATE_TEST_SUITE_P(Seeds, ModelTest, testing::Range(1U, 13U));

}  // namespace
}  // namespace fairlead::policy
