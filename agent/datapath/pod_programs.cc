// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/pod_programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <pod.skel.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <random>
#include <set>

#include "agent/datapath/abi.h"
#include "agent/datapath/map.h"
#include "agent/datapath/migration.h"
#include "agent/datapath/object.h"
#include "bpf/abi/conntrack.h"
#include "bpf/abi/drop.h"
#include "bpf/abi/endpoint.h"
#include "bpf/abi/policy.h"

namespace fairlead::datapath {
namespace {

// One filter each way, always at this place: so an agent finds and replaces what an earlier one attached.
constexpr std::uint32_t kPriority = 1;
constexpr std::uint32_t kHandle = 1;

endpoint record_of(const PodEndpoint& pod) {
  endpoint out{};
  out.ifindex = pod.ifindex;
  out.netns_cookie = pod.netns_cookie;
  out.flags = pod.shaped ? EP_SHAPED : 0;
  std::ranges::copy(pod.mac, out.mac);
  std::ranges::copy(pod.host_mac, out.host_mac);
  out.link_local = to_abi_v6(link_local_of(pod.mac));
  for (const IpAddress& address : pod.addresses) {
    if (address.is_v4()) {
      out.v4 = address.v4_be();
    } else {
      out.v6 = to_abi_v6(address);
    }
  }
  out.rules[POLICY_INGRESS] = pod.ingress.rules;
  out.rules[POLICY_EGRESS] = pod.egress.rules;
  out.generation[POLICY_INGRESS] = pod.ingress.generation;
  out.generation[POLICY_EGRESS] = pod.egress.generation;
  return out;
}

PodEndpoint endpoint_of(const endpoint& record) {
  PodEndpoint out;
  out.ifindex = record.ifindex;
  out.netns_cookie = record.netns_cookie;
  out.shaped = (record.flags & EP_SHAPED) != 0;
  std::ranges::copy(record.mac, out.mac.begin());
  std::ranges::copy(record.host_mac, out.host_mac.begin());
  if (record.v4 != 0) out.addresses.push_back(from_abi(record.v4));
  if (const IpAddress v6 = from_abi(record.v6); !v6.is_unspecified()) out.addresses.push_back(v6);
  out.ingress = {record.rules[POLICY_INGRESS], record.generation[POLICY_INGRESS]};
  out.egress = {record.rules[POLICY_EGRESS], record.generation[POLICY_EGRESS]};
  return out;
}

bpf_tc_hook hook_of(std::uint32_t ifindex, bpf_tc_attach_point point) {
  bpf_tc_hook hook{};
  hook.sz = sizeof(hook);
  hook.ifindex = static_cast<int>(ifindex);
  hook.attach_point = point;
  return hook;
}

bpf_tc_opts filter_place() {
  bpf_tc_opts filter{};
  filter.sz = sizeof(filter);
  filter.priority = kPriority;
  filter.handle = kHandle;
  return filter;
}

std::uint32_t program_id(const bpf_program* program) {
  bpf_prog_info info{};
  __u32 size = sizeof(info);
  return bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0 ? info.id : 0;
}

// The capacity of the map pinned as `name`, or `otherwise`.
std::uint32_t pinned_capacity(const BpfRoot& root, const char* name, std::uint32_t otherwise) {
  const UniqueFd pinned(bpf_obj_get(root.map_path(name).c_str()));
  bpf_map_info info{};
  std::uint32_t size = sizeof(info);
  return pinned && bpf_obj_get_info_by_fd(pinned.get(), &info, &size) == 0 ? info.max_entries : otherwise;
}

// Unanswered connections may hold a quarter of all slots.
constexpr std::uint32_t kRingShare = 4;

// What programs are told of a family's maps of connections: constants to them.
struct ToldSizes {
  const volatile __u32& buckets;
  const volatile __u32& shard_slots;
  const volatile __u32& ring_size;
};
void tell_sizes(const bpf_map* index, const bpf_map* slots, const bpf_map* ring, const ToldSizes& told) {
  const_cast<__u32&>(told.buckets) = bpf_map__max_entries(index);
  const_cast<__u32&>(told.shard_slots) = bpf_map__max_entries(slots) / CT_SHARDS;
  const_cast<__u32&>(told.ring_size) = bpf_map__max_entries(ring);
}

// Sizes the maps; where `root` is given, those that are pinned there keep theirs.
Result<> set_sizes(pod_bpf& skeleton, const BpfRoot* root, const PodCapacities& wanted) {
  const auto& maps = skeleton.maps;
  const std::uint32_t slots = (wanted.connections + 63) / 64 * 64;
  if (slots > CT_MAX_SLOTS) {
    return fail(Code::kInvalid, "room for {} connections: no more than {} are possible", slots, CT_MAX_SLOTS);
  }
  const SockCapacities& services = wanted.services;
  for (const auto& [map, entries] : {
           std::pair{maps.ct4, CT_BUCKETS(slots + wanted.translated)},
           {maps.ct6, CT_BUCKETS(slots + wanted.translated)},
           {maps.ct4_slots, slots},
           {maps.ct6_slots, slots},
           {maps.ct4_ring, slots / kRingShare},
           {maps.ct6_ring, slots / kRingShare},
           {maps.svc4, services.frontends},
           {maps.svc6, services.frontends},
           {maps.services, services.services},
           {maps.runs, services.run_slots},
           {maps.backends4, services.backends},
           {maps.backends6, services.backends},
           {maps.use4, services.backends},
           {maps.use6, services.backends},
           {maps.affinity4, services.affinities},
           {maps.affinity6, services.affinities},
           {maps.pol_id4, wanted.policy.addresses},
           {maps.pol_id6, wanted.policy.addresses},
           {maps.pol_cidr4, wanted.policy.cidrs},
           {maps.pol_cidr6, wanted.policy.cidrs},
           {maps.pol_peers, wanted.policy.peers},
       }) {
    const char* name = bpf_map__name(map);
    const std::uint32_t kept = root != nullptr ? pinned_capacity(*root, name, entries) : entries;
    const int status = bpf_map__set_max_entries(map, kept);
    if (status != 0) return fail_errno(-status, fmt::format("map {}: set its capacity", name));
  }
  skeleton.rodata->service_elements = bpf_map__max_entries(maps.services);
  const auto& told = *skeleton.rodata;
  tell_sizes(maps.ct4, maps.ct4_slots, maps.ct4_ring,
             {told.ct_buckets[0], told.ct_shard_slots[0], told.ct_ring_size[0]});
  tell_sizes(maps.ct6, maps.ct6_slots, maps.ct6_ring,
             {told.ct_buckets[1], told.ct_shard_slots[1], told.ct_ring_size[1]});
  return {};
}

// The maps that a migration moves connections out of, if it does.
Result<> take_old_connections(pod_bpf& skeleton, Migration& migration) {
  FL_LET(const bool moves, migration.give_old_connections(skeleton.obj));
  if (!moves) return {};
  const auto& maps = skeleton.maps;
  const auto& told = *skeleton.rodata;
  tell_sizes(maps.old_ct4, maps.old_ct4_slots, maps.old_ct4_ring,
             {told.ct_old_buckets[0], told.ct_old_shard_slots[0], told.ct_old_ring_size[0]});
  tell_sizes(maps.old_ct6, maps.old_ct6_slots, maps.old_ct6_ring,
             {told.ct_old_buckets[1], told.ct_old_shard_slots[1], told.ct_old_ring_size[1]});
  return {};
}

// Gives connections their default time-outs, unless somebody has given them others, and their index its seed.
Result<> ensure_config(int map_fd) {
  FL_LET(auto map, (Map<std::uint32_t, ct_config>::duplicate(map_fd)));
  FL_LET(const auto found, map.lookup(0));
  ct_config config = found.value_or(ct_config{});
  if (config.hz != 0 && config.seed != 0) return {};
  std::random_device random;
  while (config.seed == 0) config.seed = std::uint64_t{random()} << 32 | random();
  if (config.hz != 0) return map.update(0, config);
  timespec tick{};
  if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) != 0 || tick.tv_nsec == 0) return fail_errno(errno, "clock_getres");
  config.hz = static_cast<__u32>(1'000'000'000 / tick.tv_nsec);
#define DEFAULT_TIMEOUT(number, constant, name, seconds) config.timeouts[number] = (seconds) * config.hz;
  CT_STATES(DEFAULT_TIMEOUT)
#undef DEFAULT_TIMEOUT
  return map.update(0, config);
}

// Runs a program that is none of a device's; what it gives.
Result<std::uint32_t> run_once(const bpf_program* program) {
  std::array<std::uint8_t, 64> frame{};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_size_in = frame.size());
  const int status = bpf_prog_test_run_opts(bpf_program__fd(program), &options);
  if (status != 0) return fail_errno(-status, fmt::format("program {}: run", bpf_program__name(program)));
  return options.retval;
}

}  // namespace

// Index of a record by what leads to it, the same way for every key.
template <class Key>
using Index = Map<Key, std::uint32_t>;

struct BpfPodPrograms::Maps {
  Object<pod_bpf, pod_bpf__destroy> skeleton;
  Map<std::uint32_t, endpoint> endpoints;
  Index<std::uint32_t> by_ifindex;
  Index<std::uint32_t> by_device;  // [ifindex % EP_DEVICES]: a short cut, which may mislead
  Index<__be32> by_v4;
  Index<ipv6_address> by_v6;
  Map<std::uint32_t, std::uint32_t> generation;  // [0]: the highest one ever given

  Result<> open() {
    const auto& maps = skeleton->maps;
    FL_LET(endpoints, decltype(endpoints)::duplicate(bpf_map__fd(maps.endpoints)));
    FL_LET(by_ifindex, decltype(by_ifindex)::duplicate(bpf_map__fd(maps.ep_by_ifindex)));
    FL_LET(by_device, decltype(by_device)::duplicate(bpf_map__fd(maps.ep_by_device)));
    FL_LET(by_v4, decltype(by_v4)::duplicate(bpf_map__fd(maps.ep_by_v4)));
    FL_LET(by_v6, decltype(by_v6)::duplicate(bpf_map__fd(maps.ep_by_v6)));
    FL_LET(generation, decltype(generation)::duplicate(bpf_map__fd(maps.pol_generation)));
    return {};
  }

  // Calls `use(index map, key)` for what leads to the address.
  template <class Use>
  auto with_key(const IpAddress& address, Use&& use) {
    return address.is_v4() ? use(by_v4, address.v4_be()) : use(by_v6, to_abi_v6(address));
  }

  struct Filter {
    bpf_tc_attach_point point;
    const bpf_program* program;
  };
  std::array<Filter, 2> filters() const {
    return {{{BPF_TC_INGRESS, skeleton->progs.from_pod}, {BPF_TC_EGRESS, skeleton->progs.host_to_pod}}};
  }
};

BpfPodPrograms::BpfPodPrograms(std::unique_ptr<Maps> maps) : maps_(std::move(maps)) {}
BpfPodPrograms::~BpfPodPrograms() = default;

Result<std::vector<std::string>> BpfPodPrograms::changed_maps(const BpfRoot& root, const PodCapacities& capacities) {
  const Object<pod_bpf, pod_bpf__destroy> skeleton(pod_bpf__open());
  if (skeleton == nullptr) return fail_errno(errno, "open BPF object pod");
  FL_TRY(set_sizes(*skeleton, nullptr, capacities));
  return datapath::changed_maps(root, skeleton->obj);
}

Result<std::unique_ptr<BpfPodPrograms>> BpfPodPrograms::load(const BpfRoot& root, const PodCapacities& capacities,
                                                             Migration* migration) {
  auto maps = std::make_unique<Maps>();
  maps->skeleton.reset(pod_bpf__open());
  if (maps->skeleton == nullptr) return fail_errno(errno, "open BPF object pod");
  FL_TRY(set_sizes(*maps->skeleton, migration != nullptr ? nullptr : &root, capacities));
  if (migration != nullptr) FL_TRY(take_old_connections(*maps->skeleton, *migration));
  FL_TRY(migration != nullptr ? migration->load(maps->skeleton->obj) : load_object(maps->skeleton->obj, root));
  FL_TRY(maps->open());
  FL_TRY(ensure_config(bpf_map__fd(maps->skeleton->maps.ct_config)));
  FL_TRY(run_once(maps->skeleton->progs.ct_start));
  std::unique_ptr<BpfPodPrograms> programs(new BpfPodPrograms(std::move(maps)));
  FL_TRY(programs->adopt());
  return programs;
}

Result<> BpfPodPrograms::adopt() {
  std::map<std::uint32_t, std::uint32_t> leading;  // ifindex → index
  FL_TRY(maps_->by_ifindex.for_each([&](std::uint32_t ifindex, std::uint32_t index) { leading[ifindex] = index; }));
  std::vector<std::uint32_t> half;  // written or erased, when the agent was killed
  FL_TRY(maps_->endpoints.for_each([&](std::uint32_t index, const endpoint& record) {
    if (record.ifindex == 0) return;
    const auto at = leading.find(record.ifindex);
    if (at == leading.end() || at->second != index) {
      half.push_back(index);
      return;
    }
    slots_[record.ifindex] = {index, endpoint_of(record)};
    used_[index] = record.ifindex;
  }));
  for (const std::uint32_t index : half) FL_TRY(maps_->endpoints.update(index, {}));
  return drop_strays();
}

// Removes index elements that lead to no endpoint of ours.
Result<> BpfPodPrograms::drop_strays() {
  std::set<std::pair<IpAddress, std::uint32_t>> addresses;
  for (const auto& [ifindex, slot] : slots_) {
    for (const IpAddress& address : slot.endpoint.addresses) addresses.emplace(address, slot.index);
  }
  const auto drop = []<class Key>(Index<Key>& map, const auto& leads) -> Result<> {
    std::vector<Key> strays;
    FL_TRY(map.for_each([&](const auto& key, std::uint32_t index) {
      if (!leads(key, index)) strays.push_back(key);
    }));
    for (const auto& stray : strays) FL_TRY(map.erase(stray));
    return {};
  };
  FL_TRY(drop(maps_->by_ifindex, [&](std::uint32_t ifindex, std::uint32_t index) {
    const auto at = slots_.find(ifindex);
    return at != slots_.end() && at->second.index == index;
  }));
  const auto address_leads = [&](const auto& key, std::uint32_t index) {
    return addresses.contains({from_abi(key), index});
  };
  FL_TRY(drop(maps_->by_v4, address_leads));
  return drop(maps_->by_v6, address_leads);
}

Result<> BpfPodPrograms::attach(std::uint32_t ifindex) {
  bpf_tc_hook both = hook_of(ifindex, static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
  if (const int error = bpf_tc_hook_create(&both); error != 0 && error != -EEXIST) {
    return fail_errno(-error, fmt::format("device #{}: add clsact{}", ifindex, kernel_way_out(-error)));
  }
  for (const auto& [point, program] : maps_->filters()) {
    const bpf_tc_hook hook = hook_of(ifindex, point);
    bpf_tc_opts filter = filter_place();
    filter.prog_fd = bpf_program__fd(program);
    filter.flags = BPF_TC_F_REPLACE;
    if (const int error = bpf_tc_attach(&hook, &filter); error != 0) {
      return fail_errno(
          -error, fmt::format("device #{}: attach {}{}", ifindex, bpf_program__name(program), kernel_way_out(-error)));
    }
  }
  return {};
}

Result<bool> BpfPodPrograms::attached(std::uint32_t ifindex) {
  for (const auto& [point, program] : maps_->filters()) {
    const bpf_tc_hook hook = hook_of(ifindex, point);
    bpf_tc_opts filter = filter_place();
    const int error = bpf_tc_query(&hook, &filter);
    if (error == -ENOENT || error == -EINVAL) return false;  // no such filter; no clsact
    if (error != 0) return fail_errno(-error, fmt::format("device #{}: query filters", ifindex));
    if (filter.prog_id != program_id(program)) return false;
  }
  return true;
}

Result<std::uint32_t> BpfPodPrograms::free_index() {
  if (used_.size() >= MAX_ENDPOINTS) return fail(Code::kExhausted, "map endpoints is full ({})", MAX_ENDPOINTS);
  while (used_.contains(next_index_)) next_index_ = (next_index_ + 1) % MAX_ENDPOINTS;
  return std::exchange(next_index_, (next_index_ + 1) % MAX_ENDPOINTS);
}

// The record first, then what leads to it, the device last: readers find all of it, or nothing.
Result<> BpfPodPrograms::write(const Slot& slot) {
  FL_TRY(maps_->endpoints.update(slot.index, record_of(slot.endpoint)));
  for (const IpAddress& address : slot.endpoint.addresses) {
    FL_TRY(maps_->with_key(address, [&](auto& map, const auto& key) { return map.update(key, slot.index); }));
  }
  FL_TRY(maps_->by_device.update(slot.endpoint.ifindex % EP_DEVICES, slot.index));
  return maps_->by_ifindex.update(slot.endpoint.ifindex, slot.index);
}

Result<> BpfPodPrograms::upsert(const PodEndpoint& endpoint) {
  const auto at = slots_.find(endpoint.ifindex);
  if (at != slots_.end()) {
    PodEndpoint there = at->second.endpoint;
    if (there == endpoint) return {};
    there.ingress = endpoint.ingress;
    there.egress = endpoint.egress;
    if (there == endpoint) return bind_policy(at->second, endpoint);
  }
  for (const auto& [ifindex, slot] : slots_) {
    if (ifindex == endpoint.ifindex) continue;
    for (const IpAddress& address : endpoint.addresses) {
      if (std::ranges::count(slot.endpoint.addresses, address) != 0) {
        return fail(Code::kExists, "address {} of device #{} is that of device #{}", address, endpoint.ifindex,
                    ifindex);
      }
    }
  }
  FL_TRY(erase(endpoint.ifindex));
  FL_LET(const std::uint32_t index, free_index());
  const Slot slot{index, endpoint};
  slots_[endpoint.ifindex] = slot;
  used_[index] = endpoint.ifindex;
  auto written = write(slot);
  if (!written) (void)erase(endpoint.ifindex);
  return written;
}

// The rules first, then their generations: who finds new rules under an old generation judges again after that.
Result<> BpfPodPrograms::bind_policy(Slot& slot, const PodEndpoint& endpoint) {
  PodEndpoint step = slot.endpoint;
  step.ingress.rules = endpoint.ingress.rules;
  step.egress.rules = endpoint.egress.rules;
  for (const PodEndpoint& next : {step, endpoint}) {
    if (slot.endpoint == next) continue;
    FL_TRY(maps_->endpoints.update(slot.index, record_of(next)));
    slot.endpoint = next;
  }
  return {};
}

Result<std::uint32_t> BpfPodPrograms::new_generation() {
  FL_LET(const auto last, maps_->generation.lookup(0));
  const std::uint32_t next = std::max(last.value_or(0) + 1, 1U);
  FL_TRY(maps_->generation.update(0, next));
  return next;
}

Result<> BpfPodPrograms::erase(std::uint32_t ifindex) {
  const auto at = slots_.find(ifindex);
  if (at == slots_.end()) return {};
  const Slot& slot = at->second;
  FL_TRY(maps_->by_ifindex.erase(ifindex));
  for (const IpAddress& address : slot.endpoint.addresses) {
    FL_TRY(maps_->with_key(address, [](auto& map, const auto& key) { return map.erase(key); }));
  }
  FL_TRY(maps_->endpoints.update(slot.index, {}));
  used_.erase(slot.index);
  slots_.erase(at);
  return {};
}

std::vector<PodEndpoint> BpfPodPrograms::endpoints() const {
  std::vector<PodEndpoint> all;
  for (const auto& [ifindex, slot] : slots_) all.push_back(slot.endpoint);
  return all;
}

Result<std::vector<VerdictCount>> BpfPodPrograms::counters() const {
  static constexpr std::pair<std::uint32_t, const char*> kReasons[] = {{DROP_NONE, "forwarded"},
#define DROP_REASON_NAME(number, constant, name) {number, name},
                                                                       DROP_REASONS(DROP_REASON_NAME)
#undef DROP_REASON_NAME
  };
  bpf_map* map = maps_->skeleton->maps.pod_counters;
  std::vector<packet_counter> per_cpu(static_cast<std::size_t>(libbpf_num_possible_cpus()));
  std::vector<VerdictCount> all;
  for (const auto& [reason, name] : kReasons) {
    const int error =
        bpf_map__lookup_elem(map, &reason, sizeof(reason), per_cpu.data(), per_cpu.size() * sizeof(packet_counter), 0);
    if (error != 0) return fail_errno(-error, fmt::format("map pod_counters: read {}", name));
    VerdictCount count{name, 0, 0};
    for (const packet_counter& cpu : per_cpu) {
      count.packets += cpu.packets;
      count.bytes += cpu.bytes;
    }
    all.push_back(count);
  }
  return all;
}

Result<std::vector<ProgramFacts>> BpfPodPrograms::facts() const {
  return program_facts(maps_->skeleton->obj);
}

Result<> BpfPodPrograms::run_to_end(const char* program) const {
  for (const bpf_program* found = bpf_object__find_program_by_name(maps_->skeleton->obj, program);;) {
    FL_LET(const std::uint32_t more, run_once(found));
    if (more == 0) return {};
  }
}

int BpfPodPrograms::map_fd(const char* name) const {
  // A map of a move has the name of the one whose place it takes: libbpf renames it.
  const auto& maps = maps_->skeleton->maps;
  for (const auto& [old, map] : {std::pair{"old_ct4", maps.old_ct4},
                                 {"old_ct6", maps.old_ct6},
                                 {"old_ct4_slots", maps.old_ct4_slots},
                                 {"old_ct6_slots", maps.old_ct6_slots},
                                 {"old_ct4_ring", maps.old_ct4_ring},
                                 {"old_ct6_ring", maps.old_ct6_ring},
                                 {"old_ct_shards", maps.old_ct_shards}}) {
    if (std::string_view(name) == old) return bpf_map__fd(map);
  }
  return bpf_object__find_map_fd_by_name(maps_->skeleton->obj, name);
}

}  // namespace fairlead::datapath
