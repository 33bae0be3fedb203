// SPDX-License-Identifier: Apache-2.0
#include "agent/policy/rules.h"

#include <algorithm>
#include <utility>

namespace fairlead::policy {
namespace {

std::vector<RulePort> compile_ports(const model::PolicyRule& rule) {
  if (rule.any_port) return {{kAllPorts}};
  std::vector<RulePort> ports;
  for (const model::PolicyPort& port : rule.ports) {
    RulePort out{{static_cast<std::uint8_t>(port.protocol), kAllPorts.first, kAllPorts.last}};
    if (const auto* number = std::get_if<std::uint16_t>(&port.port)) {
      out.range.first = *number;
      out.range.last = std::max(*number, port.end);
    } else if (const auto* name = std::get_if<std::string>(&port.port)) {
      out.name = *name;
    }
    ports.push_back(std::move(out));
  }
  return ports;
}

void add_named(const RulePort& port, const std::vector<model::NamedPort>& named_ports, Ranges& ranges) {
  for (const model::NamedPort& named : named_ports) {
    if (named.name != port.name || static_cast<std::uint8_t>(named.protocol) != port.range.protocol) continue;
    ranges.push_back({port.range.protocol, named.port, named.port});
  }
}

template <class Value, class Key>
std::shared_ptr<Value> shared(std::map<Key, std::weak_ptr<Value>>& all, const Key& key, auto make) {
  std::weak_ptr<Value>& known = all[key];
  std::shared_ptr<Value> value = known.lock();
  if (!value) known = value = make();
  return value;
}

}  // namespace

bool PeerTerm::matches(const PeerClass& peer, const model::Labels& namespace_labels) const {
  return (namespaces ? namespaces->matches(namespace_labels) : ns == peer.ns) && pods.matches(peer.labels);
}

std::string PeerTerm::str() const {
  const std::string who = pods.empty() ? "all pods" : pods.str();
  if (!namespaces) return fmt::format("{} in {}", who, ns);
  return who + " in " + (namespaces->empty() ? "all namespaces" : "namespaces " + namespaces->str());
}

CompiledRule Interner::compile_rule(const model::PolicyRule& rule, const std::string& ns) {
  CompiledRule out{.any_peer = rule.any_peer, .ports = compile_ports(rule)};
  std::vector<PeerTerm> terms;
  std::vector<model::IpBlock> blocks;
  for (const model::PolicyPeer& peer : rule.peers) {
    if (peer.block) {
      blocks.push_back(*peer.block);
    } else {
      terms.push_back({peer.namespaces ? "" : ns, peer.namespaces, peer.pods});
    }
  }
  std::ranges::sort(terms);
  terms.erase(std::ranges::unique(terms).begin(), terms.end());
  std::ranges::sort(blocks);
  blocks.erase(std::ranges::unique(blocks).begin(), blocks.end());
  out.peers_text = out.any_peer ? "any" : "";
  for (PeerTerm& term : terms) {
    out.terms.push_back(shared(terms_, term, [&] { return std::make_shared<Term>(Term{term}); }));
    out.peers_text += fmt::format("{}|{}|{}|{};", term.ns, term.namespaces.has_value(),
                                  term.namespaces ? term.namespaces->str() : "", term.pods.str());
  }
  if (!blocks.empty()) {
    out.blocks = shared(lists_, blocks, [&] { return std::make_shared<BlockList>(BlockList{next_list_++, blocks}); });
    out.peers_text += fmt::format("blocks {}", out.blocks->id);
  }
  return out;
}

CompiledPolicy Interner::compile(std::shared_ptr<const model::NetworkPolicy> policy) {
  CompiledPolicy out{.row = std::move(policy)};
  for (const model::PolicyRule& rule : out.row->ingress) out.ingress.push_back(compile_rule(rule, out.row->id.ns));
  for (const model::PolicyRule& rule : out.row->egress) out.egress.push_back(compile_rule(rule, out.row->id.ns));
  return out;
}

void Interner::prune() {
  std::erase_if(terms_, [](const auto& entry) { return entry.second.expired(); });
  std::erase_if(lists_, [](const auto& entry) { return entry.second.expired(); });
}

RuleSpec compute_rules(const std::vector<const CompiledPolicy*>& policies, Direction direction,
                       const std::vector<model::NamedPort>& named_ports) {
  struct Joined {
    const CompiledRule* peers = nullptr;
    Ranges ranges{};
    std::set<RulePort> by_name{};
  };
  std::map<std::string_view, Joined> joined;
  for (const CompiledPolicy* policy : policies) {
    for (const CompiledRule& rule : policy->rules(direction)) {
      if (!rule.any_peer && rule.terms.empty() && !rule.blocks) continue;
      Joined& into = joined[rule.peers_text];
      into.peers = &rule;
      for (const RulePort& port : rule.ports) {
        if (port.name.empty()) {
          into.ranges.push_back(port.range);
        } else if (direction == Direction::kEgress) {
          into.by_name.insert(port);
        } else {
          add_named(port, named_ports, into.ranges);
        }
      }
    }
  }
  RuleSpec spec;
  for (auto& [text, each] : joined) {
    const Ranges ranges = join(std::move(each.ranges));
    if (ranges.empty() && each.by_name.empty()) continue;
    CompiledRule rule = *each.peers;
    rule.ports.clear();
    spec.text += rule.peers_text + ":";
    for (const datapath::PortRange& range : ranges) {
      rule.ports.push_back({range});
      spec.text += fmt::format("{}-{}/{},", range.first, range.last, range.protocol);
    }
    for (const RulePort& port : each.by_name) {
      rule.ports.push_back(port);
      spec.text += fmt::format("{}/{},", port.name, port.range.protocol);
    }
    spec.text += "\n";
    spec.rules.push_back(std::move(rule));
  }
  return spec;
}

Ranges resolve(const std::vector<RulePort>& ports, const std::vector<model::NamedPort>& named_ports) {
  Ranges ranges;
  for (const RulePort& port : ports) {
    if (port.name.empty()) {
      ranges.push_back(port.range);
    } else {
      add_named(port, named_ports, ranges);
    }
  }
  return ranges;
}

}  // namespace fairlead::policy
