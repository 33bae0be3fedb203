// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/bpf_policy_maps.h"

#include <algorithm>
#include <array>
#include <utility>

#include "agent/datapath/abi.h"
#include "agent/datapath/map.h"
#include "agent/datapath/mapped_array.h"
#include "agent/datapath/pod_programs.h"
#include "bpf/abi/policy.h"

namespace fairlead::datapath {
namespace {

static_assert(kWorld == POL_WORLD && kOwnNode == POL_OWN_NODE);

using Ranges = std::array<pol_range, POL_RANGES>;

Result<Ranges> ranges_of(const std::vector<PortRange>& ports, std::uint32_t check) {
  Ranges out{};
  if (ports.size() > out.size()) {
    return fail(Code::kExhausted, "{} port ranges: an entry has room for {}", ports.size(), out.size());
  }
  std::ranges::transform(ports, out.begin(), [&](const PortRange& range) {
    pol_range word{};
    word.first = range.first;
    word.last = range.last;
    word.mark = check | POL_RANGE_USED | range.protocol;
    return word;
  });
  return out;
}

std::vector<PortRange> ports_of(const pol_range* ranges) {
  std::vector<PortRange> out;
  for (std::size_t i = 0; i < POL_RANGES && (ranges[i].mark & POL_RANGE_USED) != 0; ++i) {
    out.push_back({static_cast<std::uint8_t>(ranges[i].mark), ranges[i].first, ranges[i].last});
  }
  return out;
}

pol_cidr_v4 key_v4(const Cidr& cidr) {
  return {cidr.prefix(), cidr.base().v4_be()};
}
pol_cidr_v6 key_v6(const Cidr& cidr) {
  return {cidr.prefix(), to_abi_v6(cidr.base())};
}

template <class Key>
Cidr cidr_of(const Key& key) {
  return Cidr::parse(fmt::format("{}/{}", from_abi(key.address), key.prefix)).value();
}

}  // namespace

struct BpfPolicyMaps::Maps {
  Map<__be32, pol_identity> id4;
  Map<ipv6_address, pol_identity> id6;
  Map<pol_cidr_v4, std::uint32_t> cidr4;
  Map<pol_cidr_v6, std::uint32_t> cidr6;
  Map<pol_peer_key, pol_peer> peers;
  MappedArray<pol_rules> rules;

  // Calls `use` with the map of the family and the key there.
  auto with(const IpAddress& address, auto&& use) {
    return address.is_v4() ? use(id4, address.v4_be()) : use(id6, to_abi_v6(address));
  }
  auto with(const Cidr& cidr, auto&& use) {
    return cidr.base().is_v4() ? use(cidr4, key_v4(cidr)) : use(cidr6, key_v6(cidr));
  }
};

BpfPolicyMaps::BpfPolicyMaps(std::unique_ptr<Maps> maps) : maps_(std::move(maps)) {}
BpfPolicyMaps::~BpfPolicyMaps() = default;

Result<std::unique_ptr<BpfPolicyMaps>> BpfPolicyMaps::open(const BpfPodPrograms& programs) {
  FL_LET(auto id4, (Map<__be32, pol_identity>::duplicate(programs.map_fd("pol_id4"))));
  FL_LET(auto id6, (Map<ipv6_address, pol_identity>::duplicate(programs.map_fd("pol_id6"))));
  FL_LET(auto cidr4, (Map<pol_cidr_v4, std::uint32_t>::duplicate(programs.map_fd("pol_cidr4"))));
  FL_LET(auto cidr6, (Map<pol_cidr_v6, std::uint32_t>::duplicate(programs.map_fd("pol_cidr6"))));
  FL_LET(auto peers, (Map<pol_peer_key, pol_peer>::duplicate(programs.map_fd("pol_peers"))));
  FL_LET(auto rules, MappedArray<pol_rules>::open(programs.map_fd("pol_rules"), POL_MAX_RULES, "pol_rules"));
  std::unique_ptr<BpfPolicyMaps> maps(new BpfPolicyMaps(std::make_unique<Maps>(
      std::move(id4), std::move(id6), std::move(cidr4), std::move(cidr6), std::move(peers), std::move(rules))));
  std::vector<pol_peer_key> strays;  // of a rule set that was being made or erased when the agent was killed
  FL_TRY(maps->maps_->peers.for_each([&](const pol_peer_key& key, const pol_peer&) {
    if (key.rules < POL_MAX_RULES && maps->maps_->rules[key.rules].current != 0) {
      maps->peers_[key.rules].insert(key.identity);
    } else {
      strays.push_back(key);
    }
  }));
  for (const pol_peer_key& stray : strays) FL_TRY(maps->maps_->peers.erase(stray));
  return maps;
}

Result<> BpfPolicyMaps::set_identity(const IpAddress& address, Identity identity) {
  pol_identity value{};
  value.identity = identity;
  return maps_->with(address, [&]<class Key>(auto& map, const Key& key) {
    if constexpr (std::is_same_v<Key, ipv6_address>) {
      value.check = pol_check_v6(&key);
    } else {
      value.check = pol_check_v4(key);
    }
    return map.update(key, value);
  });
}

Result<> BpfPolicyMaps::erase_identity(const IpAddress& address) {
  FL_TRY(maps_->with(address, [](auto& map, const auto& key) { return map.erase(key); }));
  return {};
}

Result<> BpfPolicyMaps::set_identity(const Cidr& cidr, Identity identity) {
  return maps_->with(cidr, [&](auto& map, const auto& key) { return map.update(key, identity); });
}

Result<> BpfPolicyMaps::erase_identity(const Cidr& cidr) {
  FL_TRY(maps_->with(cidr, [](auto& map, const auto& key) { return map.erase(key); }));
  return {};
}

Result<> BpfPolicyMaps::check(RuleSetId id) const {
  if (id != 0 && id < POL_MAX_RULES) return {};
  return fail(Code::kInvalid, "rule set {}: want 1 … {}", id, POL_MAX_RULES - 1);
}

Result<> BpfPolicyMaps::put_rules(RuleSetId id, const std::vector<PortRange>& any_peer) {
  FL_TRY(check(id));
  FL_LET(const Ranges ranges, ranges_of(any_peer, 0));
  pol_rules& rules = maps_->rules[id];
  // Never 0, and of the half that is not in force, whatever a crash left there.
  std::uint32_t next = std::max(rules.current, rules.written) + 1;
  while (next == 0 || (rules.current != 0 && next % 2 == rules.current % 2)) ++next;
  for (std::size_t i = 0; i < ranges.size(); ++i) store(rules.any_peer[next & 1][i].word, ranges[i].word);
  store(rules.current, next);
  store(rules.written, next);
  return {};
}

Result<> BpfPolicyMaps::allow(RuleSetId id, Identity peer, const std::vector<PortRange>& ports) {
  FL_TRY(check(id));
  FL_LET(const Ranges ranges, ranges_of(ports, pol_peer_check(id, peer)));
  pol_peer value{};
  std::ranges::copy(ranges, value.ranges);
  FL_TRY(maps_->peers.update({id, peer}, value));
  peers_[id].insert(peer);
  return {};
}

std::size_t BpfPolicyMaps::allow_first(RuleSetId id, const std::vector<PeerPorts>& peers) {
  if (!check(id)) return 0;
  std::vector<pol_peer_key> keys;
  std::vector<pol_peer> values;
  for (const auto& [peer, ports] : peers) {
    const auto ranges = ranges_of(ports, pol_peer_check(id, peer));
    if (!ranges) break;
    keys.push_back({id, peer});
    std::ranges::copy(*ranges, values.emplace_back().ranges);
  }
  const std::size_t written = maps_->peers.update(keys, values);
  std::set<Identity>& known = peers_[id];
  for (std::size_t i = 0; i < written; ++i) known.insert(known.end(), keys[i].identity);
  if (known.empty()) peers_.erase(id);
  return written;
}

Result<> BpfPolicyMaps::forbid(RuleSetId id, Identity peer) {
  FL_TRY(check(id));
  FL_TRY(maps_->peers.erase({id, peer}));
  const auto at = peers_.find(id);
  if (at == peers_.end()) return {};
  at->second.erase(peer);
  if (at->second.empty()) peers_.erase(at);
  return {};
}

Result<> BpfPolicyMaps::erase_rules(RuleSetId id) {
  FL_TRY(check(id));
  store(maps_->rules[id].current, 0);
  const auto at = peers_.find(id);
  if (at == peers_.end()) return {};
  for (const Identity peer : at->second) FL_TRY(maps_->peers.erase({id, peer}));
  peers_.erase(at);
  return {};
}

Result<PolicyContents> BpfPolicyMaps::read() const {
  PolicyContents out;
  const auto address = [&](const auto& key, const pol_identity& value) {
    out.addresses[from_abi(key)] = value.identity;
  };
  const auto cidr = [&](const auto& key, std::uint32_t identity) { out.cidrs[cidr_of(key)] = identity; };
  FL_TRY(maps_->id4.for_each(address));
  FL_TRY(maps_->id6.for_each(address));
  FL_TRY(maps_->cidr4.for_each(cidr));
  FL_TRY(maps_->cidr6.for_each(cidr));
  maps_->rules.for_each([&](RuleSetId id, const pol_rules& rules) {
    if (id != 0 && rules.current != 0) out.rules[id].any_peer = ports_of(rules.any_peer[rules.current & 1]);
  });
  FL_TRY(maps_->peers.for_each([&](const pol_peer_key& key, const pol_peer& value) {
    out.rules[key.rules].peers[key.identity] = ports_of(value.ranges);
  }));
  return out;
}

}  // namespace fairlead::datapath
