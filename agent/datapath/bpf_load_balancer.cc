// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/bpf_load_balancer.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "agent/base/log.h"
#include "agent/datapath/arrangement.h"

namespace fairlead::datapath {
namespace {

// `entry` with its lists sorted and free of duplicates, and without weights that say nothing; kInvalid where it mixes
// families or protocols, or where a weight is none.
Result<ServiceEntry> normalized(const std::string& name, const ServiceEntry& entry) {
  ServiceEntry out = entry;
  std::ranges::sort(out.frontends);
  out.frontends.erase(std::ranges::unique(out.frontends).begin(), out.frontends.end());
  if (out.frontends.empty()) return fail(Code::kInvalid, "service {}: it has no frontend", name);
  if (out.affinity_timeout_s > SERVICE_MAX_TIMEOUT_S) {
    return fail(Code::kInvalid, "service {}: affinity for {} s, more than {}", name, out.affinity_timeout_s,
                SERVICE_MAX_TIMEOUT_S);
  }
  if (!entry.weights.empty() && entry.weights.size() != entry.backends.size()) {
    return fail(Code::kInvalid, "service {}: {} weights for {} backends", name, entry.weights.size(),
                entry.backends.size());
  }
  std::map<Backend, std::uint32_t> weights;
  for (std::size_t i = 0; i < entry.backends.size(); ++i) weights.emplace(entry.backends[i], weight_of(entry, i));
  out.backends.clear();
  out.weights.clear();
  for (const auto& [backend, weight] : weights) {
    if (weight < 1 || weight > kMaxWeight) return fail(Code::kInvalid, "service {}: weight {}", name, weight);
    out.backends.push_back(backend);
    out.weights.push_back(weight);
  }
  drop_equal_weights(out);
  std::ranges::sort(out.draining);
  const Frontend& first = out.frontends.front();
  const Family family = first.address.family();
  if (!std::ranges::all_of(
          out.frontends,
          [&](const Frontend& f) { return f.address.family() == family && f.protocol == first.protocol; }) ||
      !std::ranges::all_of(out.backends, [&](const Backend& b) { return b.address.family() == family; }) ||
      !std::ranges::all_of(out.draining, [&](const Backend& b) { return b.address.family() == family; })) {
    return fail(Code::kInvalid, "service {}: its frontends and backends are of several families or protocols", name);
  }
  return out;
}

// What a service may let drain: backends that it had, and has no more. Others have no connections.
void keep_known_draining(ServiceEntry& entry, const ServiceEntry& before) {
  std::erase_if(entry.draining, [&](const Backend& backend) {
    return std::ranges::binary_search(entry.backends, backend) ||
           (!std::ranges::binary_search(before.backends, backend) &&
            !std::ranges::binary_search(before.draining, backend));
  });
  entry.draining.erase(std::ranges::unique(entry.draining).begin(), entry.draining.end());
}

// Where `count` places of the service's element are free beside the run that it holds: the base; none: nowhere.
std::optional<std::uint32_t> room_for_own_run(const Elements& held, std::uint32_t count) {
  if (!is_own_run(held.base)) return count <= SERVICE_OWN_PLACES ? std::optional(SERVICE_OWN_RUN) : std::nullopt;
  const std::uint32_t before = held.base - SERVICE_OWN_RUN;
  if (count <= before) return SERVICE_OWN_RUN;
  if (before + held.count + count <= SERVICE_OWN_PLACES) return held.base + held.count;
  return std::nullopt;
}

std::vector<Frontend> missing_in(const std::vector<Frontend>& all, const std::vector<Frontend>& there) {
  std::vector<Frontend> out;
  std::ranges::set_difference(all, there, std::back_inserter(out));
  return out;
}

}  // namespace

Result<std::unique_ptr<BpfLoadBalancer>> BpfLoadBalancer::open(const SockPrograms& programs,
                                                               Sender<BackendsGone> gone) {
  // Taking over looks at every element there is; what is mapped for that is given back.
  const auto take_over = [&]() -> Result<Adopted> {
    FL_LET(ServiceMaps all, ServiceMaps::open(programs));
    return adopt(all);
  };
  FL_LET(Adopted adopted, take_over());
  FL_LET(ServiceMaps maps, ServiceMaps::open(programs));
  FL_LET(std::unique_ptr<GracePeriod> grace, GracePeriod::start());
  const std::set<IpAddress> addresses = std::move(adopted.addresses);
  std::unique_ptr<BpfLoadBalancer> balancer(
      new BpfLoadBalancer(std::move(maps), std::move(adopted), std::move(grace), std::move(gone)));
  FL_TRY(balancer->settle_addresses(addresses));
  return balancer;
}

BpfLoadBalancer::BpfLoadBalancer(ServiceMaps maps, Adopted adopted, std::unique_ptr<GracePeriod> grace,
                                 Sender<BackendsGone> gone)
    : maps_(std::move(maps)),
      services_(std::move(adopted.services)),
      next_tag_(adopted.next_tag),
      ids_(std::move(grace), maps_.service_capacity(), maps_.backend_capacity(), std::move(adopted.runs), adopted.used),
      gone_(std::move(gone)) {
  for (const auto& [index, live] : services_) {
    unclaimed_.insert(index);
    for (const Frontend& frontend : live.entry.frontends) owners_[frontend] = index;
  }
}

std::uint32_t BpfLoadBalancer::find_or_claim(const std::string& name, const ServiceEntry& entry) {
  if (const auto known = names_.find(name); known != names_.end()) return known->second;
  for (const Frontend& frontend : entry.frontends) {
    const auto owner = owners_.find(frontend);
    // Index 0 gathers frontends that lead nowhere: nothing to claim.
    if (owner == owners_.end() || owner->second == 0 || unclaimed_.erase(owner->second) == 0) continue;
    names_[name] = owner->second;
    return owner->second;
  }
  return 0;
}

Result<> BpfLoadBalancer::apply(const std::string& name, const ServiceEntry& wanted) {
  maps_.unmap_much();
  FL_LET(ServiceEntry entry, normalized(name, wanted));
  if (auto settled = settle_sharing(entry); !settled)
    return fail_with(settled.error(), fmt::format("service {}", name));
  const std::uint32_t index = find_or_claim(name, entry);
  if (index == 0) {
    entry.draining.clear();
    return create(name, entry);
  }
  LiveService& live = services_.at(index);
  keep_known_draining(entry, live.entry);
  if (live.entry == entry && !live.suspect) return {};
  if (auto changed = change(live, entry); !changed) return fail_with(changed.error(), fmt::format("service {}", name));
  return {};
}

Result<> BpfLoadBalancer::settle_sharing(const ServiceEntry& entry) {
  for (const Frontend& frontend : entry.frontends) {
    const IpAddress& address = frontend.address;
    if (entry.shares_addresses) {
      if (shared_.insert(address).second && owns_address(address)) FL_TRY(maps_.erase_address(address));
    } else if (shared_.erase(address) != 0 && owns_address(address)) {
      FL_TRY(maps_.put_address(address));
    }
  }
  return {};
}

Result<> BpfLoadBalancer::create(const std::string& name, const ServiceEntry& entry) {
  LiveService live;
  const Family family = entry.frontends.front().address.family();
  auto taken = ids_.take_service(maps_.home_of(entry.frontends.front()), family);
  if (!taken) return fail_with(taken.error(), fmt::format("service {}", name));
  live.elements = std::move(*taken);
  live.tag = next_tag_++;
  const std::uint32_t index = live.elements.service;
  maps_.start_service(index, live.tag);
  if (auto changed = change(live, entry); !changed) {
    maps_.free_service(index);
    ids_.retire({.service = index});
    return fail_with(changed.error(), fmt::format("service {}", name));
  }
  services_.emplace(index, std::move(live));
  names_[name] = index;
  return {};
}

Result<> BpfLoadBalancer::change(LiveService& live, const ServiceEntry& entry) {
  Elements& held = live.elements;
  const std::uint32_t index = held.service;
  const bool is_new = !services_.contains(index);
  const Protocol protocol = entry.frontends.front().protocol;

  // What stays keeps its element; what is suspect keeps nothing.
  std::map<Backend, std::uint32_t> before;
  Elements old{.family = held.family, .backends = {}, .base = held.base, .count = held.count};
  const auto remember = [&](const std::vector<Backend>& backends, const std::vector<std::uint32_t>& of) {
    for (std::size_t i = 0; i < of.size(); ++i) {
      if (live.suspect) {
        old.backends.push_back(of[i]);
      } else {
        before.emplace(backends[i], of[i]);
      }
    }
  };
  remember(live.entry.backends, held.backends);
  remember(live.entry.draining, held.draining);
  const auto take_known = [&](const std::vector<Backend>& backends) {
    std::vector<std::uint32_t> known(backends.size(), 0);
    for (std::size_t i = 0; i < backends.size(); ++i) {
      if (const auto node = before.extract(backends[i])) known[i] = node.mapped();
    }
    return known;
  };
  std::vector<std::uint32_t> ids = take_known(entry.backends);
  const std::vector<std::uint32_t> draining = take_known(entry.draining);
  for (const auto& [backend, id] : before) old.backends.push_back(id);
  const bool same_run = !live.suspect && entry.backends == live.entry.backends &&
                        entry.balancing == live.entry.balancing && entry.weights == live.entry.weights;
  const std::vector<std::uint32_t> order =
      same_run ? std::vector<std::uint32_t>{} : arrange(entry.balancing, entry.backends, entry.weights);
  const auto count = static_cast<std::uint32_t>(order.size());
  const auto fresh = static_cast<std::size_t>(std::ranges::count(ids, 0U));
  const auto own_run = room_for_own_run(held, count);
  FL_LET(const Elements taken, ids_.take(held.family, fresh, own_run ? 0 : count));

  const auto publish = [&] {
    if (live.tag == 0 || (live.suspect && maps_.service(index).tag != live.tag)) {
      if (live.tag == 0) live.tag = next_tag_++;
      maps_.start_service(index, live.tag);
    }
    auto next = taken.backends.begin();
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] != 0) {
        maps_.set_weight(held.family, ids[i], weight_of(entry, i));
        maps_.set_state(held.family, ids[i], BACKEND_VALID);
      } else {
        ids[i] = *next++;
        maps_.write_backend(ids[i], entry.backends[i], index, weight_of(entry, i));
      }
    }
    if (!same_run) {
      std::vector<std::uint32_t> run(order.size());
      std::ranges::transform(order, run.begin(), [&](std::uint32_t position) { return ids[position]; });
      held.base = own_run.value_or(taken.base);
      maps_.write_run(index, held.base, run);
      held.count = count;
    }
    maps_.publish(index, held.base, held.count, entry.affinity_timeout_s, entry.balancing);
    retire(held.family, protocol, draining, BACKEND_DRAINING);
    retire(held.family, protocol, old.backends, BACKEND_GONE);
    held.backends = ids;
    held.draining = draining;
  };

  // The last step that can fail is the frontends': a new service is whole before they lead to it, one in use changes
  // after.
  const std::vector<Frontend> added =
      live.suspect ? entry.frontends : missing_in(entry.frontends, live.entry.frontends);
  if (is_new) publish();
  if (auto done = add_frontends(added, index); !done) {
    if (is_new) {
      retire(held.family, protocol, held.backends, BACKEND_GONE);
      ids_.retire(taken);
    } else {
      ids_.put(taken);
    }
    return done;
  }
  if (!is_new) publish();
  const std::vector<Frontend> gone = missing_in(live.entry.frontends, entry.frontends);
  live.entry = entry;
  live.suspect = false;
  if (same_run) old.count = 0;
  ids_.retire(std::move(old));
  return erase_frontends(gone, index);
}

Result<> BpfLoadBalancer::add_frontends(const std::vector<Frontend>& frontends, std::uint32_t index) {
  std::vector<std::pair<Frontend, std::uint32_t>> before;  // what was there, 0: nothing
  for (const Frontend& frontend : frontends) {
    const bool said = owns_address(frontend.address) || shared_.contains(frontend.address);
    auto put = said ? Result<>() : maps_.put_address(frontend.address);
    if (put) put = maps_.put_frontend(frontend, index);
    if (!put) {
      if (!owns_address(frontend.address)) (void)maps_.erase_address(frontend.address);
      for (const auto& [each, owner] : before) {
        owners_[each] = owner;
        // Best effort: what cannot be undone is found by the audit.
        if (owner == 0) {
          owners_.erase(each);
          (void)maps_.erase_frontend(each);
          if (!owns_address(each.address)) (void)maps_.erase_address(each.address);
        } else {
          (void)maps_.put_frontend(each, owner);
        }
      }
      return put;
    }
    const auto owner = owners_.find(frontend);
    before.emplace_back(frontend, owner == owners_.end() ? 0 : owner->second);
    owners_[frontend] = index;
  }
  for (const auto& [frontend, owner] : before) {
    if (owner != 0 && owner != index) std::erase(services_.at(owner).entry.frontends, frontend);
  }
  return {};
}

Result<> BpfLoadBalancer::erase_frontends(const std::vector<Frontend>& frontends, std::uint32_t index) {
  for (const Frontend& frontend : frontends) {
    // It may be another service's by now: that one was applied before this one was removed.
    const auto owner = owners_.find(frontend);
    if (owner == owners_.end() || owner->second != index) continue;
    FL_TRY(maps_.erase_frontend(frontend));
    owners_.erase(owner);
    if (!owns_address(frontend.address)) FL_TRY(maps_.erase_address(frontend.address));
  }
  return {};
}

bool BpfLoadBalancer::owns_address(const IpAddress& address) const {
  const auto first = owners_.lower_bound({.address = address});
  return first != owners_.end() && first->first.address == address;
}

Result<> BpfLoadBalancer::settle_addresses(const std::set<IpAddress>& there) {
  for (const IpAddress& address : there) {
    if (!owns_address(address) || shared_.contains(address)) FL_TRY(maps_.erase_address(address));
  }
  for (const auto& [frontend, index] : owners_) {
    if (!there.contains(frontend.address) && !shared_.contains(frontend.address)) {
      FL_TRY(maps_.put_address(frontend.address));
    }
  }
  return {};
}

Result<> BpfLoadBalancer::drop(std::uint32_t index) {
  LiveService& live = services_.at(index);
  FL_TRY(erase_frontends(live.entry.frontends, index));
  if (index != 0) maps_.free_service(index);
  for (const auto& ids : {live.elements.backends, live.elements.draining}) {
    const Protocol protocol = live.entry.frontends.empty() ? Protocol::kTcp : live.entry.frontends.front().protocol;
    retire(live.elements.family, protocol, ids, BACKEND_GONE);
  }
  ids_.retire(std::move(live.elements));
  services_.erase(index);
  return {};
}

void BpfLoadBalancer::retire(Family family, Protocol protocol, std::span<const std::uint32_t> ids,
                             backend_state state) {
  for (const std::uint32_t id : ids) maps_.set_state(family, id, state);
  if (!ids.empty()) gone_.send({protocol});
}

Result<> BpfLoadBalancer::remove(const std::string& name) {
  maps_.unmap_much();
  const auto known = names_.find(name);
  if (known == names_.end()) return {};
  if (auto dropped = drop(known->second); !dropped) return fail_with(dropped.error(), fmt::format("service {}", name));
  names_.erase(known);
  return {};
}

Result<> BpfLoadBalancer::remove_unclaimed() {
  while (!unclaimed_.empty()) {
    FL_TRY(drop(*unclaimed_.begin()));
    unclaimed_.erase(unclaimed_.begin());
  }
  return {};
}

std::vector<MapUsage> BpfLoadBalancer::usage() const {
  std::array<std::uint64_t, 2> frontends{};
  std::array<std::uint64_t, 2> backends{};
  std::uint64_t slots = 0;
  const IpAddress* last = nullptr;
  for (const auto& [frontend, index] : owners_) {
    // Each address has an element of its own.
    frontends[ServiceIds::family_slot(frontend.address.family())] +=
        (last == nullptr || *last != frontend.address) && !shared_.contains(frontend.address) ? 2 : 1;
    last = &frontend.address;
  }
  for (const auto& [index, live] : services_) {
    backends[ServiceIds::family_slot(live.elements.family)] +=
        live.elements.backends.size() + live.elements.draining.size();
    if (!is_own_run(live.elements.base)) slots += live.elements.count;
  }
  return {{"svc4", frontends[0], maps_.frontend_capacity()},
          {"svc6", frontends[1], maps_.frontend_capacity()},
          {"services", services_.size(), maps_.service_capacity() - 1},
          {"runs", slots, maps_.run_capacity()},
          {"backends4", backends[0], maps_.backend_capacity() - 1},
          {"backends6", backends[1], maps_.backend_capacity() - 1}};
}

ServiceUse BpfLoadBalancer::use(const std::string& name) const {
  ServiceUse out;
  const auto known = names_.find(name);
  if (known == names_.end()) return out;
  const LiveService& live = services_.at(known->second);
  out.hits = maps_.service_hits(known->second);
  for (std::size_t i = 0; i < live.entry.backends.size(); ++i) {
    const backend_use& use = maps_.use(live.elements.family, live.elements.backends[i]);
    out.backends.push_back({live.entry.backends[i], use.hits, use.open});
  }
  return out;
}

Result<std::set<std::string>> BpfLoadBalancer::audit() {
  std::map<Frontend, std::uint32_t> missing = owners_;
  std::vector<Frontend> strays;
  const auto suspect = [this](std::uint32_t index) { services_.at(index).suspect = true; };
  std::set<IpAddress> addresses;
  FL_TRY(maps_.for_each_frontend([&](const Frontend& frontend, std::uint32_t index) {
    if (frontend.port == 0) return addresses.insert(frontend.address), void();
    const auto owner = missing.find(frontend);
    if (owner == missing.end()) {
      strays.push_back(frontend);
      return;
    }
    if (owner->second != index) suspect(owner->second);
    missing.erase(owner);
  }));
  for (const auto& [frontend, index] : missing) suspect(index);
  for (const Frontend& frontend : strays) {
    log::warn("datapath", "foreign frontend removed", {{"address", frontend.address}, {"port", frontend.port}});
    FL_TRY(maps_.erase_frontend(frontend));
  }
  FL_TRY(settle_addresses(addresses));
  maps_.settle_homes([this](const Frontend& frontend, std::uint32_t index) {
    const auto owner = owners_.find(frontend);
    return owner != owners_.end() && owner->second == index;
  });
  std::set<std::string> differing;
  for (const auto& [name, index] : names_) {
    LiveService& live = services_.at(index);
    if (!arrays_match(maps_, live)) live.suspect = true;
    if (live.suspect) differing.insert(name);
  }
  return differing;
}

}  // namespace fairlead::datapath
