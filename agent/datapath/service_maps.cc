// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/service_maps.h"

#include <arpa/inet.h>

#include <algorithm>

#include "agent/datapath/abi.h"

namespace fairlead::datapath {
namespace {

template <Balancing balancing, service_algorithm algorithm>
constexpr bool kSame = static_cast<std::uint32_t>(balancing) == algorithm;
static_assert(kSame<Balancing::kRandom, ALGORITHM_RANDOM> && kSame<Balancing::kRoundRobin, ALGORITHM_ROUND_ROBIN> &&
              kSame<Balancing::kLeastConnections, ALGORITHM_LEAST_CONNECTIONS> &&
              kSame<Balancing::kSourceHash, ALGORITHM_SOURCE_HASH> &&
              kSame<Balancing::kDestinationHash, ALGORITHM_DESTINATION_HASH> &&
              kSame<Balancing::kMaglev, ALGORITHM_MAGLEV>);

// A loopback address is the node's own alone: every pod has another one.
std::uint8_t scope(const Frontend& f) {
  return f.address.is_loopback() ? SCOPE_NODE : SCOPE_CLUSTER;
}
frontend_v4 key_v4(const Frontend& f) {
  return {f.address.v4_be(), htons(f.port), static_cast<std::uint8_t>(f.protocol), scope(f)};
}
frontend_v6 key_v6(const Frontend& f) {
  return {to_abi_v6(f.address), htons(f.port), static_cast<std::uint8_t>(f.protocol), scope(f)};
}
std::uint32_t check(const frontend_v4& key) {
  return frontend_check_v4(&key);
}
std::uint32_t check(const frontend_v6& key) {
  return frontend_check_v6(&key);
}

// What service.at says of the frontend.
std::uint32_t at_word(const Frontend& f) {
  return service_at_word(htons(f.port), static_cast<std::uint8_t>(f.protocol), scope(f));
}
bool is_zero(const ipv6_address& address) {
  return (address.words[0] | address.words[1] | address.words[2] | address.words[3]) == 0;
}

// Calls `visit` with the map of the address's family and its key.
template <class Map4, class Map6, class Visit>
auto with_family(const Frontend& frontend, Map4& map4, Map6& map6, Visit visit) {
  return frontend.address.is_v4() ? visit(map4, key_v4(frontend)) : visit(map6, key_v6(frontend));
}

template <class Record>
BackendRecord from_record(const Record& record) {
  return {.backend = {from_abi(record.address), ntohs(record.port)},
          .state = static_cast<backend_state>(record.state),
          .service = record.service,
          .generation = record.generation};
}

void write_use(backend_use& use, std::uint32_t generation, std::uint32_t weight) {
  store(use.open, 0);
  store(use.hits, 0);
  store(use.weight, weight);
  store(use.generation, generation);
}

// The state goes last on the way in, and first on the way out: a valid element is whole.
template <class Record>
void write_record(Record& record, decltype(Record::address) address, const Backend& backend, std::uint32_t service,
                  backend_use& use, std::uint32_t weight) {
  store(record.state, BACKEND_GONE);
  write_use(use, record.generation + 1, weight);
  record.address = address;
  record.port = htons(backend.port);
  record.service = service;
  store(record.generation, record.generation + 1);
  store(record.state, BACKEND_VALID);
}

template <class T>
Result<MappedArray<T>> open_array(const SockPrograms& programs, const char* name) {
  FL_LET(const auto map, (Map<std::uint32_t, T>::duplicate(programs.map_fd(name))));
  return MappedArray<T>::open(map.fd(), map.capacity(), name);
}

}  // namespace

Result<ServiceMaps> ServiceMaps::open(const SockPrograms& programs) {
  FL_LET(auto svc4, (Map<frontend_v4, frontend>::duplicate(programs.map_fd("svc4"))));
  FL_LET(auto svc6, (Map<frontend_v6, frontend>::duplicate(programs.map_fd("svc6"))));
  FL_LET(auto services, open_array<::service>(programs, "services"));
  FL_LET(auto runs, open_array<run_slot>(programs, "runs"));
  FL_LET(auto backends4, open_array<backend_v4>(programs, "backends4"));
  FL_LET(auto backends6, open_array<backend_v6>(programs, "backends6"));
  FL_LET(auto use4, open_array<backend_use>(programs, "use4"));
  FL_LET(auto use6, open_array<backend_use>(programs, "use6"));
  return ServiceMaps(std::move(svc4), std::move(svc6), std::move(services), std::move(runs), std::move(backends4),
                     std::move(backends6), std::move(use4), std::move(use6));
}

Result<> ServiceMaps::put_frontend(const Frontend& frontend, std::uint32_t service) {
  FL_TRY(with_family(frontend, svc4_, svc6_,
                     [service](auto& map, const auto& key) { return map.update(key, {service, check(key)}); }));
  settle_home(frontend, service);
  return {};
}

Result<> ServiceMaps::erase_frontend(const Frontend& frontend) {
  settle_home(frontend, 0);
  return with_family(frontend, svc4_, svc6_, [](auto& map, const auto& key) -> Result<> {
    FL_TRY(map.erase(key));
    return {};
  });
}

Result<> ServiceMaps::for_each_frontend(const std::function<void(const Frontend&, std::uint32_t)>& visit) const {
  const auto each = [&visit](const auto& key, const ::frontend& value) {
    visit({from_abi(key.address), ntohs(key.port), static_cast<Protocol>(key.protocol)},
          value.check == check(key) ? value.service : 0);
  };
  FL_TRY(svc4_.for_each(each));
  return svc6_.for_each(each);
}

std::uint32_t ServiceMaps::home_of(const Frontend& frontend) const {
  const ipv6_address address = to_mapped(frontend.address);
  return service_home(&address, at_word(frontend), services_.size());
}

void ServiceMaps::settle_home(const Frontend& frontend, std::uint32_t service) {
  const std::uint32_t home = frontend.port == 0 ? 0 : home_of(frontend);
  if (home == 0) return;
  ::service& element = services_[home];
  const ipv6_address address = to_mapped(frontend.address);
  const bool is_there = std::ranges::equal(element.address.words, address.words);
  if (service != home) {
    if (is_there && element.at == at_word(frontend)) store(element.at, 0);
    return;
  }
  // One in the life of an element: who reads while it changes sees it or none, and no mixture of two.
  if (element.at != 0 || (!is_there && !is_zero(element.address))) return;
  for (std::size_t i = 0; i < 4; ++i) store(element.address.words[i], address.words[i]);
  store(element.at, at_word(frontend));
}

void ServiceMaps::settle_homes(const std::function<bool(const Frontend&, std::uint32_t)>& leads) {
  services_.for_each([&](std::uint32_t index, ::service& element) {
    if (element.at == 0) return;
    const Frontend frontend{from_mapped(element.address), ntohs(element.port), static_cast<Protocol>(element.protocol)};
    if (element.at != at_word(frontend) || home_of(frontend) != index || !leads(frontend, index)) store(element.at, 0);
  });
}

void ServiceMaps::unmap_much() {
  services_.unmap_much();
  runs_.unmap_much();
  backends4_.unmap_much();
  backends6_.unmap_much();
  use4_.unmap_much();
  use6_.unmap_much();
}

ServiceRecord ServiceMaps::service(std::uint32_t index) const {
  const ::service& element = services_[index];
  return {element.base, element.count, element.tag, element.settings >> SERVICE_TIMEOUT_SHIFT,
          static_cast<Balancing>(element.settings & SERVICE_ALGORITHM)};
}

void ServiceMaps::start_service(std::uint32_t index, std::uint32_t tag) {
  ::service& element = services_[index];
  store(element.at, 0);
  for (__u32& word : element.address.words) store(word, 0);
  store(element.run, 0);
  store(element.settings, 0);
  store(element.hits, 0);
  store(element.turn, tag);  // so that round robin begins elsewhere on every node, as a rule
  store(element.tag, tag);
}

void ServiceMaps::publish(std::uint32_t index, std::uint32_t base, std::uint32_t count,
                          std::uint32_t affinity_timeout_s, Balancing balancing) {
  ::service& element = services_[index];
  // Not one store with the run: whatever the algorithm, each place of a run leads to a backend.
  store(element.settings, affinity_timeout_s << SERVICE_TIMEOUT_SHIFT | static_cast<std::uint32_t>(balancing));
  store(element.run, static_cast<std::uint64_t>(count) << 32 | base);
}

void ServiceMaps::free_service(std::uint32_t index) {
  ::service& element = services_[index];
  store(element.at, 0);
  store(element.run, 0);
  store(element.tag, 0);
}

void ServiceMaps::write_run(std::uint32_t index, std::uint32_t base, std::span<const std::uint32_t> backends) {
  ::service& element = services_[index];
  if (is_own_run(base)) {
    for (const std::uint32_t backend : backends) store(element.own_run[base++ - SERVICE_OWN_RUN], backend);
    return;
  }
  for (const std::uint32_t backend : backends) {
    store(runs_[base].backend, backend);
    store(runs_[base].tag, element.tag);
    ++base;
  }
}

std::optional<std::vector<std::uint32_t>> ServiceMaps::run(std::uint32_t index) const {
  const ::service& element = services_[index];
  if (is_own_run(element.base)) {
    const std::span<const std::uint32_t> own(element.own_run);
    const std::uint32_t first = element.base - SERVICE_OWN_RUN;
    if (first > own.size() || element.count > own.size() - first) return std::nullopt;
    const auto run = own.subspan(first, element.count);
    return std::vector(run.begin(), run.end());
  }
  if (element.base > runs_.size() || element.count > runs_.size() - element.base) return std::nullopt;
  std::vector<std::uint32_t> backends;
  backends.reserve(element.count);
  for (const run_slot& slot : runs_.run(element.base, element.count)) {
    if (slot.tag != element.tag) return std::nullopt;
    backends.push_back(slot.backend);
  }
  return backends;
}

std::uint32_t ServiceMaps::largest_tag() const {
  return std::ranges::max(runs_.run(0, runs_.size()), {}, &run_slot::tag).tag;
}

BackendRecord ServiceMaps::backend(Family family, std::uint32_t id) const {
  return family == Family::kV4 ? from_record(backends4_[id]) : from_record(backends6_[id]);
}

void ServiceMaps::write_backend(std::uint32_t id, const Backend& backend, std::uint32_t service, std::uint32_t weight) {
  if (backend.address.is_v4()) {
    write_record(backends4_[id], backend.address.v4_be(), backend, service, use4_[id], weight);
  } else {
    write_record(backends6_[id], to_abi_v6(backend.address), backend, service, use6_[id], weight);
  }
}

void ServiceMaps::start_use(Family family, std::uint32_t id, std::uint32_t weight) {
  write_use(uses(family)[id], backend(family, id).generation, weight);
}

void ServiceMaps::connection_closed(Family family, std::uint32_t id, std::uint32_t generation) {
  if (id >= backend_capacity()) return;
  backend_use& use = uses(family)[id];
  if (std::atomic_ref(use.generation).load() == generation) std::atomic_ref(use.open).fetch_sub(1);
}

void ServiceMaps::set_state(Family family, std::uint32_t id, backend_state state) {
  store(family == Family::kV4 ? backends4_[id].state : backends6_[id].state, state);
}

}  // namespace fairlead::datapath
