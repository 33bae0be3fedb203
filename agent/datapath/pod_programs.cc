// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/pod_programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <pod.skel.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <optional>
#include <set>

#include "agent/base/log.h"
#include "bpf/abi/drop.h"
#include "bpf/abi/endpoint.h"

namespace fairlead::datapath {
namespace {

// One filter each way, always at this place: so an agent finds and replaces what an earlier one attached.
constexpr std::uint32_t kPriority = 1;
constexpr std::uint32_t kHandle = 1;

// What leads to a slot besides its ifindex: the key as its hash holds it.
struct AddressKey {
  bpf_map* map;
  std::array<std::uint8_t, 16> bytes{};
};

ipv6_address to_abi(const IpAddress& address) {
  ipv6_address out{};
  std::memcpy(&out, address.bytes().data(), sizeof(out));
  return out;
}

IpAddress from_abi(const ipv6_address& address) {
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), &address, bytes.size());
  return IpAddress::from_v6(bytes);
}

IpAddress from_abi(__be32 address) {
  std::array<std::uint8_t, 4> bytes{};
  std::memcpy(bytes.data(), &address, bytes.size());
  return IpAddress::from_v4(bytes);
}

endpoint to_abi(const PodEndpoint& pod) {
  endpoint out{};
  out.ifindex = pod.ifindex;
  out.netns_cookie = pod.netns_cookie;
  std::ranges::copy(pod.mac, out.mac);
  std::ranges::copy(pod.host_mac, out.host_mac);
  out.link_local = to_abi(link_local_of(pod.mac));
  for (const IpAddress& address : pod.addresses) {
    if (address.is_v4()) {
      out.v4 = address.v4_be();
    } else {
      out.v6 = to_abi(address);
    }
  }
  return out;
}

PodEndpoint from_abi(const endpoint& record) {
  PodEndpoint out;
  out.ifindex = record.ifindex;
  out.netns_cookie = record.netns_cookie;
  std::ranges::copy(record.mac, out.mac.begin());
  std::ranges::copy(record.host_mac, out.host_mac.begin());
  if (record.v4 != 0) out.addresses.push_back(from_abi(record.v4));
  if (const IpAddress v6 = from_abi(record.v6); !v6.is_unspecified()) out.addresses.push_back(v6);
  return out;
}

Result<> write_map(bpf_map* map, const void* key, std::size_t key_size, const void* value, std::size_t value_size) {
  const int error = bpf_map__update_elem(map, key, key_size, value, value_size, BPF_ANY);
  if (error != 0) return fail_errno(-error, fmt::format("map {}: write an element", bpf_map__name(map)));
  return {};
}

std::optional<std::uint32_t> read_index(bpf_map* map, const void* key, std::size_t key_size) {
  std::uint32_t index = 0;
  if (bpf_map__lookup_elem(map, key, key_size, &index, sizeof(index), 0) != 0) return std::nullopt;
  return index;
}

Result<> erase_key(bpf_map* map, const void* key, std::size_t key_size) {
  const int error = bpf_map__delete_elem(map, key, key_size, 0);
  if (error != 0 && error != -ENOENT) {
    return fail_errno(-error, fmt::format("map {}: delete an element", bpf_map__name(map)));
  }
  return {};
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

// libbpf's own words, which it says of expected failures (clsact is there already) as well.
int log_libbpf(libbpf_print_level, const char* format, va_list args) {
  char line[512];
  const int size = std::vsnprintf(line, sizeof(line), format, args);
  if (size > 0) log::debug("libbpf", std::string_view(line, std::min<std::size_t>(size, sizeof(line) - 1)));
  return size;
}

std::uint32_t program_id(const bpf_program* program) {
  bpf_prog_info info{};
  __u32 size = sizeof(info);
  return bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0 ? info.id : 0;
}

}  // namespace

struct BpfPodPrograms::Object {
  explicit Object(pod_bpf* opened) : skeleton(opened) {}
  ~Object() { pod_bpf__destroy(skeleton); }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  AddressKey key_of(const IpAddress& address) const {
    AddressKey key{address.is_v4() ? skeleton->maps.ep_by_v4 : skeleton->maps.ep_by_v6};
    std::ranges::copy(address.bytes(), key.bytes.begin());
    return key;
  }

  struct Filter {
    bpf_tc_attach_point point;
    const bpf_program* program;
  };
  std::array<Filter, 2> filters() const {
    return {{{BPF_TC_INGRESS, skeleton->progs.from_pod}, {BPF_TC_EGRESS, skeleton->progs.host_to_pod}}};
  }

  pod_bpf* skeleton;
};

BpfPodPrograms::BpfPodPrograms(std::unique_ptr<Object> object) : object_(std::move(object)) {}
BpfPodPrograms::~BpfPodPrograms() = default;

Result<std::unique_ptr<BpfPodPrograms>> BpfPodPrograms::load(const std::string& pin_dir) {
  libbpf_set_print(log_libbpf);
  pod_bpf* skeleton = pod_bpf__open();
  if (skeleton == nullptr) return fail_errno(errno, "open BPF object pod");
  auto object = std::make_unique<Object>(skeleton);
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton->obj) {
    const int error = bpf_map__set_pin_path(map, fmt::format("{}/{}", pin_dir, bpf_map__name(map)).c_str());
    if (error != 0) return fail_errno(-error, fmt::format("map {}: pin in {}", bpf_map__name(map), pin_dir));
  }
  if (const int error = pod_bpf__load(skeleton); error != 0) {
    return fail_errno(-error, fmt::format("load BPF object pod with maps in {}", pin_dir));
  }
  std::unique_ptr<BpfPodPrograms> programs(new BpfPodPrograms(std::move(object)));
  FL_TRY(programs->adopt());
  return programs;
}

Result<> BpfPodPrograms::adopt() {
  const auto& maps = object_->skeleton->maps;
  for (std::uint32_t index = 0; index < MAX_ENDPOINTS; ++index) {
    endpoint record{};
    const int error = bpf_map__lookup_elem(maps.endpoints, &index, sizeof(index), &record, sizeof(record), 0);
    if (error != 0) return fail_errno(-error, fmt::format("map endpoints: read element {}", index));
    if (record.ifindex == 0) continue;
    if (read_index(maps.ep_by_ifindex, &record.ifindex, sizeof(record.ifindex)) == index) {
      slots_[record.ifindex] = {index, from_abi(record)};
      used_[index] = record.ifindex;
    } else {  // half written, or half erased
      const endpoint empty{};
      FL_TRY(write_map(maps.endpoints, &index, sizeof(index), &empty, sizeof(empty)));
    }
  }
  return drop_strays();
}

// Removes hash elements that lead to no endpoint of ours.
Result<> BpfPodPrograms::drop_strays() {
  const auto& maps = object_->skeleton->maps;
  for (bpf_map* map : {maps.ep_by_ifindex, maps.ep_by_v4, maps.ep_by_v6}) {
    const std::size_t size = bpf_map__key_size(map);
    std::array<std::uint8_t, 16> key{};
    std::vector<std::array<std::uint8_t, 16>> strays;
    for (bool first = true; bpf_map__get_next_key(map, first ? nullptr : key.data(), key.data(), size) == 0;
         first = false) {
      const auto index = read_index(map, key.data(), size);
      const auto used = index ? used_.find(*index) : used_.end();
      bool led = used != used_.end();
      if (led && map == maps.ep_by_ifindex) led = std::memcmp(key.data(), &used->second, size) == 0;
      if (led && map != maps.ep_by_ifindex) {
        led = std::ranges::any_of(slots_.at(used->second).endpoint.addresses, [&](const IpAddress& address) {
          return address.bytes().size() == size && std::memcmp(address.bytes().data(), key.data(), size) == 0;
        });
      }
      if (!led) strays.push_back(key);
    }
    for (const auto& stray : strays) FL_TRY(erase_key(map, stray.data(), size));
  }
  return {};
}

Result<> BpfPodPrograms::attach(std::uint32_t ifindex) {
  bpf_tc_hook both = hook_of(ifindex, static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
  if (const int error = bpf_tc_hook_create(&both); error != 0 && error != -EEXIST) {
    return fail_errno(-error, fmt::format("device #{}: add clsact", ifindex));
  }
  for (const auto& [point, program] : object_->filters()) {
    const bpf_tc_hook hook = hook_of(ifindex, point);
    bpf_tc_opts filter = filter_place();
    filter.prog_fd = bpf_program__fd(program);
    filter.flags = BPF_TC_F_REPLACE;
    if (const int error = bpf_tc_attach(&hook, &filter); error != 0) {
      return fail_errno(-error, fmt::format("device #{}: attach {}", ifindex, bpf_program__name(program)));
    }
  }
  return {};
}

Result<bool> BpfPodPrograms::attached(std::uint32_t ifindex) {
  for (const auto& [point, program] : object_->filters()) {
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
  const auto& maps = object_->skeleton->maps;
  const endpoint record = to_abi(slot.endpoint);
  FL_TRY(write_map(maps.endpoints, &slot.index, sizeof(slot.index), &record, sizeof(record)));
  for (const IpAddress& address : slot.endpoint.addresses) {
    const AddressKey key = object_->key_of(address);
    FL_TRY(write_map(key.map, key.bytes.data(), address.bytes().size(), &slot.index, sizeof(slot.index)));
  }
  return write_map(maps.ep_by_ifindex, &record.ifindex, sizeof(record.ifindex), &slot.index, sizeof(slot.index));
}

Result<> BpfPodPrograms::upsert(const PodEndpoint& endpoint) {
  const auto at = slots_.find(endpoint.ifindex);
  if (at != slots_.end() && at->second.endpoint == endpoint) return {};
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

Result<> BpfPodPrograms::erase(std::uint32_t ifindex) {
  const auto at = slots_.find(ifindex);
  if (at == slots_.end()) return {};
  const auto& maps = object_->skeleton->maps;
  const Slot& slot = at->second;
  FL_TRY(erase_key(maps.ep_by_ifindex, &ifindex, sizeof(ifindex)));
  for (const IpAddress& address : slot.endpoint.addresses) {
    const AddressKey key = object_->key_of(address);
    FL_TRY(erase_key(key.map, key.bytes.data(), address.bytes().size()));
  }
  const struct endpoint empty{};
  FL_TRY(write_map(maps.endpoints, &slot.index, sizeof(slot.index), &empty, sizeof(empty)));
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
  bpf_map* map = object_->skeleton->maps.pod_counters;
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

}  // namespace fairlead::datapath
