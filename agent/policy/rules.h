// SPDX-License-Identifier: Apache-2.0
// What a pod's policies come to in one direction, in terms of peers and ports, before anybody is counted in. Pure.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "agent/model/rows.h"
#include "agent/policy/blocks.h"
#include "agent/policy/ports.h"

namespace fairlead::policy {

enum class Direction { kIngress, kEgress };

// Pods that no rule can tell apart, but for their addresses.
struct PeerClass {
  std::string ns;
  model::Labels labels;
  std::vector<model::NamedPort> named_ports;
  auto operator<=>(const PeerClass&) const = default;
};

// Pods that a peer of a rule means.
struct PeerTerm {
  std::string ns;  // without `namespaces`: the only one
  std::optional<model::Selector> namespaces;
  model::Selector pods;
  auto operator<=>(const PeerTerm&) const = default;

  bool matches(const PeerClass& peer, const model::Labels& namespace_labels) const;
  // "app=web in shop", "all pods in namespaces team=x".
  std::string str() const;
};

// A term as long as some policy has it; it knows whom it means while `rule_sets` is not empty.
struct Term {
  PeerTerm what;
  std::set<datapath::RuleSetId> rule_sets{};
  std::unordered_set<const PeerClass*> peers{};
};

// All ipBlocks of a rule, as long as some policy has them.
struct BlockList {
  ListId id = 0;
  std::vector<model::IpBlock> blocks;
  std::size_t rule_sets = 0;
};

// Ports of a rule; with a name, the number that a pod gives to it.
struct RulePort {
  datapath::PortRange range;
  std::string name{};
  auto operator<=>(const RulePort&) const = default;
};

// One rule of a policy, ready to be counted in.
struct CompiledRule {
  bool any_peer = false;
  std::vector<std::shared_ptr<Term>> terms{};
  std::shared_ptr<BlockList> blocks{};  // or null
  std::vector<RulePort> ports{};
  std::string peers_text{};  // equal for equal peers
};

struct CompiledPolicy {
  std::shared_ptr<const model::NetworkPolicy> row;
  std::vector<CompiledRule> ingress{};
  std::vector<CompiledRule> egress{};

  const std::vector<CompiledRule>& rules(Direction direction) const {
    return direction == Direction::kIngress ? ingress : egress;
  }
  bool isolates(Direction direction) const {
    return direction == Direction::kIngress ? row->isolates_ingress : row->isolates_egress;
  }
};

// Gives terms and lists that are equal to one another one object. Owner: Desired.
class Interner {
 public:
  CompiledPolicy compile(std::shared_ptr<const model::NetworkPolicy> policy);
  // Forgets what no policy has any more.
  void prune();

 private:
  CompiledRule compile_rule(const model::PolicyRule& rule, const std::string& ns);
  std::map<PeerTerm, std::weak_ptr<Term>> terms_;
  std::map<std::vector<model::IpBlock>, std::weak_ptr<BlockList>> lists_;
  ListId next_list_ = 1;
};

// What one direction of a pod comes to. Equal texts are equal rules.
struct RuleSpec {
  std::vector<CompiledRule> rules{};  // of all policies, those of equal peers joined
  std::string text{};
};

// Of a pod with these named ports. A name of an ingress rule is a port of the pod itself; one of an egress rule is left
// to each peer.
RuleSpec compute_rules(const std::vector<const CompiledPolicy*>& policies, Direction direction,
                       const std::vector<model::NamedPort>& named_ports);

// The ports that `ports` come to with a pod that has these named ports.
Ranges resolve(const std::vector<RulePort>& ports, const std::vector<model::NamedPort>& named_ports);

}  // namespace fairlead::policy
