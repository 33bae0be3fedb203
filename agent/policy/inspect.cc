// SPDX-License-Identifier: Apache-2.0
#include "agent/policy/inspect.h"

#include <spdlog/fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "agent/policy/judge.h"
#include "agent/policy/ports.h"

namespace fairlead::policy {
namespace {

const char* name_of(Direction direction) {
  return direction == Direction::kIngress ? "ingress" : "egress";
}

datapath::RuleSetId rules_of(const model::PodPolicy& row, Direction direction) {
  return direction == Direction::kIngress ? row.ingress_rules : row.egress_rules;
}

std::string text_of(const model::IpBlock& block) {
  if (block.except.empty()) return block.cidr.str();
  return fmt::format("{} except {}", block.cidr, fmt::join(block.except, ", "));
}

std::string text_of(const RulePort& port) {
  if (port.name.empty()) return str(port.range);
  return fmt::format("{}/{}", port.name, to_string(static_cast<Protocol>(port.range.protocol)));
}

Json rule_json(const std::string& policy, Direction direction, std::size_t index, const CompiledRule& rule) {
  Json peers = Json::array();
  if (rule.any_peer) peers.push_back("any");
  for (const auto& term : rule.terms) peers.push_back(term->what.str());
  if (rule.blocks) {
    for (const model::IpBlock& block : rule.blocks->blocks) peers.push_back(text_of(block));
  }
  Json ports = Json::array();
  for (const RulePort& port : rule.ports) ports.push_back(text_of(port));
  return {{"policy", policy},
          {"rule", fmt::format("{}[{}]", name_of(direction), index)},
          {"peers", peers},
          {"ports", ports}};
}

std::string arg(const Inspect& request, const char* name) {
  const auto at = request.args.find(name);
  return at != request.args.end() && at->is_string() ? at->get<std::string>() : "";
}

const OwnPod* find_own(const Desired& desired, const std::string& key) {
  for (const auto& [uid, own] : desired.own_pods()) {
    if (own.pod.id.key() == key) return &own;
  }
  return nullptr;
}

// Calls `use(policy key, rule's index, rule)` for each rule that isolates the pod in that direction.
void for_each_rule(const Desired& desired, const OwnPod& own, Direction direction, auto use) {
  for (const std::string& key : own.policies) {
    const CompiledPolicy& policy = desired.policies().at(key);
    if (!policy.isolates(direction)) continue;
    for (std::size_t i = 0; i < policy.rules(direction).size(); ++i) use(key, i, policy.rules(direction)[i]);
  }
}

Json side_json(const Desired& desired, const OwnPod& own, Direction direction, const model::PodPolicy* told) {
  Json policies = Json::array();
  for (const std::string& key : own.policies) {
    if (desired.policies().at(key).isolates(direction)) policies.push_back(key);
  }
  Json rules = Json::array();
  for_each_rule(desired, own, direction, [&](const std::string& key, std::size_t index, const CompiledRule& rule) {
    rules.push_back(rule_json(key, direction, index, rule));
  });
  return {{"isolated", !policies.empty()},
          {"rule_set", told == nullptr ? 0 : rules_of(*told, direction)},
          {"policies", policies},
          {"rules", rules}};
}

Result<Json> get(const Inspect& request, const View& view) {
  const std::string key = arg(request, "namespace") + "/" + arg(request, "name");
  const OwnPod* own = find_own(view.desired, key);
  if (own == nullptr) return fail(Code::kNotFound, "no pod {} on this node", key);
  const auto at = view.told.find(own->pod.id.uid);
  const model::PodPolicy* told = at == view.told.end() ? nullptr : &at->second;
  bool in_force = told != nullptr && !view.failing.contains("pod " + own->pod.id.uid);
  Json addresses = Json::array();
  Json identities = Json::array();
  for (const IpAddress& address : view.desired.own_addresses(own->pod.id.uid)) {
    addresses.push_back(address.str());
    identities.push_back(view.desired.identity(address).value_or(datapath::kWorld));
  }
  for (const Direction direction : {Direction::kIngress, Direction::kEgress}) {
    const RuleSetEntry* wanted = own->rules[static_cast<std::size_t>(direction)];
    in_force = in_force && rules_of(*told, direction) == (wanted == nullptr ? 0 : wanted->number);
  }
  return Json{{"namespace", own->pod.id.ns},
              {"name", own->pod.id.name},
              {"uid", own->pod.id.uid},
              {"host_network", own->pod.host_network},
              {"addresses", addresses},
              {"identities", identities},
              {"revision", told == nullptr ? 0 : told->revision},
              {"in_force", in_force},
              {"ingress", side_json(view.desired, *own, Direction::kIngress, told)},
              {"egress", side_json(view.desired, *own, Direction::kEgress, told)}};
}

// An end of a traced connection.
struct End {
  std::string text;
  const model::PeerPod* pod = nullptr;  // or only an address
  const OwnPod* own = nullptr;
  std::vector<IpAddress> addresses{};
};

Result<End> find_end(const View& view, const std::string& text, const char* field) {
  if (text.empty()) return fail(Code::kInvalid, "{}: want NAMESPACE/POD or an address", field);
  End end{.text = text};
  if (const auto address = IpAddress::parse(text)) {
    end.addresses = {*address};
    end.pod = view.desired.find_pod(*address);
  } else {
    const std::string key = text.find('/') == std::string::npos ? "default/" + text : text;
    end.own = find_own(view.desired, key);
    end.pod = end.own != nullptr ? &end.own->pod : view.desired.find_pod(key);
    if (end.pod == nullptr) return fail(Code::kNotFound, "{}: no pod {}", field, key);
    end.addresses = end.own != nullptr ? view.desired.own_addresses(end.pod->id.uid) : end.pod->ips;
  }
  if (end.own == nullptr && end.pod != nullptr) end.own = view.desired.own_pod(end.pod->id.uid);
  if (end.addresses.empty()) return fail(Code::kNotFound, "{}: {} has no address of its own", field, text);
  return end;
}

struct Port {
  std::uint8_t protocol = 0;
  std::uint16_t number = 0;
};

Result<Port> read_port(const std::string& text) {
  const std::size_t slash = text.find('/');
  std::string protocol = slash == std::string::npos ? "TCP" : text.substr(slash + 1);
  std::ranges::transform(protocol, protocol.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  Port port;
  const std::string digits = text.substr(0, slash);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port.number);
  const auto known = parse_protocol(protocol);
  if (error != std::errc() || end != digits.data() + digits.size() || port.number == 0 || !known) {
    return fail(Code::kInvalid, "port: \"{}\": want NUMBER/PROTOCOL, such as 80/TCP", text);
  }
  port.protocol = static_cast<std::uint8_t>(*known);
  return port;
}

// One side: what the maps say of the pod `own` and its peer, and which rules of policies say the same.
Json judge_side(const View& view, const datapath::PolicyContents& maps, const OwnPod* own, Direction direction,
                const IpAddress& peer_address, const model::PeerPod* peer, const Port& port) {
  if (own == nullptr) {
    return {
        {"judged", false}, {"allowed", true}, {"why", "judged where its pod runs, if it is a pod: not on this node"}};
  }
  const auto told = view.told.find(own->pod.id.uid);
  const datapath::RuleSetId rules = told == view.told.end() ? 0 : rules_of(told->second, direction);
  const datapath::Identity identity = identity_of(maps, peer_address);
  const bool allowed = told != view.told.end() && allows(maps, rules, identity, port.protocol, port.number);
  Json by = Json::array();
  const Lists& lists = view.desired.blocks().find(peer_address);
  const PeerClass peers =
      peer == nullptr || peer->host_network ? PeerClass() : PeerClass{peer->id.ns, peer->labels, peer->named_ports};
  for_each_rule(
      view.desired, *own, direction, [&](const std::string& key, std::size_t index, const CompiledRule& rule) {
        const bool reached = rule.any_peer || (rule.blocks && std::ranges::binary_search(lists, rule.blocks->id)) ||
                             (!peers.ns.empty() && std::ranges::any_of(rule.terms, [&](const auto& term) {
                               return term->what.matches(peers, view.desired.namespace_labels(peers.ns));
                             }));
        const auto& named = direction == Direction::kIngress ? own->pod.named_ports : peers.named_ports;
        if (reached && contains(resolve(rule.ports, named), port.protocol, port.number)) {
          by.push_back(fmt::format("{} {}[{}]", key, name_of(direction), index));
        }
      });
  std::string why;
  if (told == view.told.end()) {
    why = "its rules are not in the maps yet: it has no network";
  } else if (rules == 0) {
    why = "no policy isolates it";
  } else if (identity == datapath::kOwnNode) {
    why = "the pod's own node is always allowed";
  } else if (by.empty()) {
    why = "no rule allows it";
  } else {
    why = fmt::format("allowed by {}", fmt::join(by.get<std::vector<std::string>>(), ", "));
  }
  return {{"judged", true},     {"isolated", rules != 0},
          {"rule_set", rules},  {"identity", identity},
          {"allowed", allowed}, {"by", by},
          {"why", why}};
}

Result<Json> trace(const Inspect& request, const View& view) {
  FL_LET(const End from, find_end(view, arg(request, "from"), "from"));
  FL_LET(const End to, find_end(view, arg(request, "to"), "to"));
  FL_LET(const Port port, read_port(arg(request, "port")));
  for (const IpAddress& source : from.addresses) {
    const auto target = std::ranges::find(to.addresses, source.family(), &IpAddress::family);
    if (target == to.addresses.end()) continue;
    FL_LET(const datapath::PolicyContents maps, view.maps.read());
    const Json egress = judge_side(view, maps, from.own, Direction::kEgress, *target, to.pod, port);
    const Json ingress = judge_side(view, maps, to.own, Direction::kIngress, source, from.pod, port);
    return Json{{"from", from.text},
                {"from_address", source.str()},
                {"to", to.text},
                {"to_address", target->str()},
                {"port", arg(request, "port")},
                {"egress", egress},
                {"ingress", ingress},
                {"allowed", egress["allowed"] == true && ingress["allowed"] == true}};
  }
  return fail(Code::kInvalid, "{} and {} have no address of the same family", from.text, to.text);
}

}  // namespace

Result<Json> answer(const Inspect& request, const View& view) {
  if (request.op == "policy.get") return get(request, view);
  if (request.op == "policy.trace") return trace(request, view);
  return fail(Code::kInvalid, "no operation \"{}\"", request.op);
}

}  // namespace fairlead::policy
