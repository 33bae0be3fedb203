// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/adoption.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "agent/datapath/arrangement.h"

namespace fairlead::datapath {
namespace {

// Whether `run` is what `live` makes of its backends.
bool is_arranged(std::span<const std::uint32_t> run, const LiveService& live) {
  const std::vector<std::uint32_t> order = arrange(live.entry.balancing, live.entry.backends, live.entry.weights);
  return std::ranges::equal(run, order, {}, {},
                            [&](std::uint32_t position) { return live.elements.backends[position]; });
}

// Fills in backends, run and tag of the service at `index`; false where the arrays contradict themselves.
bool read_service(ServiceMaps& maps, std::uint32_t index, Family family, Adopted& out, LiveService& live) {
  const ServiceRecord record = maps.service(index);
  if (record.tag == 0) return false;
  live.tag = record.tag;
  const auto run = maps.run(index);
  if (!run || record.balancing > Balancing::kMaglev) return false;
  std::vector<std::uint32_t> ids = *run;
  std::ranges::sort(ids);
  if (!ids.empty() && (ids.front() == 0 || ids.back() >= maps.backend_capacity())) return false;
  ids.erase(std::ranges::unique(ids).begin(), ids.end());
  std::vector<std::pair<Backend, std::uint32_t>> backends;
  for (const std::uint32_t id : ids) {
    const BackendRecord backend = maps.backend(family, id);
    if (backend.state != BACKEND_VALID || backend.service != index) return false;
    backends.emplace_back(backend.backend, id);
  }
  std::ranges::sort(backends);
  if (std::ranges::adjacent_find(backends, {}, &std::pair<Backend, std::uint32_t>::first) != backends.end())
    return false;
  LiveService read = live;
  read.entry.affinity_timeout_s = record.affinity_timeout_s;
  read.entry.balancing = record.balancing;
  read.elements.base = record.base;
  read.elements.count = record.count;
  for (const auto& [backend, id] : backends) {
    if (maps.use(family, id).generation != maps.backend(family, id).generation) maps.start_use(family, id, 1);
    read.entry.backends.push_back(backend);
    read.entry.weights.push_back(std::clamp(maps.use(family, id).weight, 1U, kMaxWeight));
    read.elements.backends.push_back(id);
  }
  drop_equal_weights(read.entry);
  if (!is_arranged(*run, read)) return false;
  if (!is_own_run(record.base) && !out.runs.reserve(record.base, record.count)) return false;
  live = std::move(read);
  return true;
}

// False where the service has the backend already.
bool add_draining(LiveService& live, const Backend& backend, std::uint32_t id) {
  if (std::ranges::binary_search(live.entry.backends, backend)) return false;
  const auto at = std::ranges::lower_bound(live.entry.draining, backend);
  if (at != live.entry.draining.end() && *at == backend) return false;
  live.elements.draining.insert(live.elements.draining.begin() + (at - live.entry.draining.begin()), id);
  live.entry.draining.insert(at, backend);
  return true;
}

// Finds the draining backends of adopted services, takes out of the arrays what none of them holds, and notes what is
// held.
void settle_backends(ServiceMaps& maps, Family family, Adopted& out) {
  std::vector<std::uint32_t>& used = out.used.backends[ServiceIds::family_slot(family)];
  for (const auto& [index, live] : out.services) {
    if (live.elements.family == family) {
      used.insert(used.end(), live.elements.backends.begin(), live.elements.backends.end());
    }
  }
  std::ranges::sort(used);
  for (std::uint32_t id = 1; id < maps.backend_capacity(); ++id) {
    const BackendRecord record = maps.backend(family, id);
    if (record.state == BACKEND_GONE || std::ranges::binary_search(used, id)) continue;
    const auto live = out.services.find(record.service);
    if (record.state == BACKEND_DRAINING && live != out.services.end() && !live->second.suspect &&
        live->second.elements.family == family && add_draining(live->second, record.backend, id)) {
      continue;
    }
    maps.set_state(family, id, BACKEND_GONE);
  }
  for (const auto& [index, live] : out.services) {
    if (live.elements.family == family) {
      used.insert(used.end(), live.elements.draining.begin(), live.elements.draining.end());
    }
  }
  std::ranges::sort(used);
}

}  // namespace

Result<Adopted> adopt(ServiceMaps& maps) {
  Adopted out{.services = {}, .used = {}, .runs = RunAllocator(maps.run_capacity())};
  FL_TRY(maps.for_each_frontend([&](const Frontend& frontend, std::uint32_t index) {
    if (frontend.port == 0) return out.addresses.insert(frontend.address), void();
    LiveService& live = out.services[index < maps.service_capacity() ? index : 0];
    live.entry.frontends.push_back(frontend);
  }));
  for (auto& [index, live] : out.services) {
    std::ranges::sort(live.entry.frontends);
    const Frontend& first = live.entry.frontends.front();
    live.elements.family = first.address.family();
    const bool one_kind = std::ranges::all_of(live.entry.frontends, [&](const Frontend& f) {
      return f.protocol == first.protocol && f.address.family() == first.address.family();
    });
    live.elements.service = index;
    live.suspect = index == 0 || !one_kind || !read_service(maps, index, live.elements.family, out, live);
  }
  maps.settle_homes([&out](const Frontend& frontend, std::uint32_t index) {
    const auto live = out.services.find(index);
    return live != out.services.end() && std::ranges::binary_search(live->second.entry.frontends, frontend);
  });
  for (std::uint32_t index = 1; index < maps.service_capacity(); ++index) {
    const std::uint32_t tag = maps.service(index).tag;
    out.next_tag = std::max(out.next_tag, tag + 1);
    if (out.services.contains(index)) {
      out.used.services.push_back(index);
    } else if (tag != 0) {
      maps.free_service(index);
    }
  }
  out.next_tag = std::max(out.next_tag, maps.largest_tag() + 1);
  settle_backends(maps, Family::kV4, out);
  settle_backends(maps, Family::kV6, out);
  return out;
}

bool arrays_match(const ServiceMaps& maps, const LiveService& live) {
  const Elements& held = live.elements;
  const ServiceRecord wanted{held.base, held.count, live.tag, live.entry.affinity_timeout_s, live.entry.balancing};
  if (maps.service(held.service) != wanted) return false;
  const auto run = maps.run(held.service);
  if (!run || !is_arranged(*run, live)) return false;
  const auto stands = [&](std::uint32_t id, const Backend& backend, backend_state state) {
    const BackendRecord record = maps.backend(held.family, id);
    return record.state == state && record.service == held.service && record.backend == backend;
  };
  for (std::size_t i = 0; i < held.backends.size(); ++i) {
    if (maps.use(held.family, held.backends[i]).weight != weight_of(live.entry, i)) return false;
    if (!stands(held.backends[i], live.entry.backends[i], BACKEND_VALID)) return false;
  }
  for (std::size_t i = 0; i < held.draining.size(); ++i) {
    if (!stands(held.draining[i], live.entry.draining[i], BACKEND_DRAINING)) return false;
  }
  return true;
}

}  // namespace fairlead::datapath
