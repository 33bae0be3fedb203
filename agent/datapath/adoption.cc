// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/adoption.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace fairlead::datapath {
namespace {

// Fills in backends, run and tag of the service at `index`; false where the arrays contradict themselves.
bool read_service(const ServiceMaps& maps, std::uint32_t index, Family family, Adopted& out, LiveService& live) {
  const ServiceRecord record = maps.service(index);
  if (record.tag == 0) return false;
  live.tag = record.tag;
  const std::uint64_t end = std::uint64_t{record.base} + record.count;
  if (end > maps.run_capacity()) return false;
  std::vector<std::pair<Backend, std::uint32_t>> backends;
  for (const run_slot& slot : maps.run(record.base, record.count)) {
    if (slot.tag != record.tag || slot.backend == 0 || slot.backend >= maps.backend_capacity()) return false;
    const BackendRecord backend = maps.backend(family, slot.backend);
    if (!backend.valid || backend.service != index) return false;
    backends.emplace_back(backend.backend, slot.backend);
  }
  std::ranges::sort(backends);
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first || a.second == b.second; };
  if (std::ranges::adjacent_find(backends, same) != backends.end()) return false;
  if (!out.runs.reserve(record.base, record.count)) return false;
  live.entry.affinity_timeout_s = record.affinity_timeout_s;
  live.elements.base = record.base;
  live.elements.count = record.count;
  for (const auto& [backend, id] : backends) {
    live.entry.backends.push_back(backend);
    live.elements.backends.push_back(id);
  }
  return true;
}

// Takes out of the arrays what no adopted service holds, and notes what is held.
void settle_backends(ServiceMaps& maps, Family family, Adopted& out) {
  std::vector<std::uint32_t>& used = out.used.backends[ServiceIds::family_slot(family)];
  for (const auto& [index, live] : out.services) {
    if (live.elements.family == family) {
      used.insert(used.end(), live.elements.backends.begin(), live.elements.backends.end());
    }
  }
  std::ranges::sort(used);
  auto next = used.begin();
  for (std::uint32_t id = 1; id < maps.backend_capacity(); ++id) {
    if (next != used.end() && *next == id) {
      ++next;
    } else if (maps.backend(family, id).valid) {
      maps.retire_backend(family, id);
    }
  }
}

}  // namespace

Result<Adopted> adopt(ServiceMaps& maps) {
  Adopted out{.services = {}, .used = {}, .runs = RunAllocator(maps.run_capacity())};
  FL_TRY(maps.for_each_frontend([&](const Frontend& frontend, std::uint32_t index) {
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
  for (std::uint32_t index = 1; index < maps.service_capacity(); ++index) {
    const std::uint32_t tag = maps.service(index).tag;
    out.next_tag = std::max(out.next_tag, tag + 1);
    if (out.services.contains(index)) {
      out.used.services.push_back(index);
    } else if (tag != 0) {
      maps.free_service(index);
    }
  }
  for (const run_slot& slot : maps.run(0, maps.run_capacity())) out.next_tag = std::max(out.next_tag, slot.tag + 1);
  settle_backends(maps, Family::kV4, out);
  settle_backends(maps, Family::kV6, out);
  return out;
}

bool arrays_match(const ServiceMaps& maps, const LiveService& live) {
  const Elements& held = live.elements;
  const ServiceRecord wanted{held.base, held.count, live.tag, live.entry.affinity_timeout_s};
  if (maps.service(held.service) != wanted) return false;
  std::vector<std::uint32_t> ids;
  for (const run_slot& slot : maps.run(held.base, held.count)) {
    if (slot.tag != live.tag) return false;
    ids.push_back(slot.backend);
  }
  std::vector<std::uint32_t> expected = held.backends;
  std::ranges::sort(ids);
  std::ranges::sort(expected);
  if (ids != expected) return false;
  for (std::size_t i = 0; i < held.backends.size(); ++i) {
    const BackendRecord record = maps.backend(held.family, held.backends[i]);
    if (!record.valid || record.service != held.service || record.backend != live.entry.backends[i]) return false;
  }
  return true;
}

}  // namespace fairlead::datapath
