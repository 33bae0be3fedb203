// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/bpf_node_paths.h"

#include <bpf/libbpf.h>
#include <host.skel.h>
#include <overlay.skel.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/datapath/abi.h"
#include "agent/datapath/pod_programs.h"
#include "bpf/abi/conntrack.h"

namespace fairlead::datapath {
namespace {

path_key_v4 key_v4(const Cidr& destination) {
  return {destination.prefix(), destination.base().v4_be()};
}

path_key_v6 key_v6(const Cidr& destination) {
  return {destination.prefix(), to_abi_v6(destination.base())};
}

Result<Cidr> masked(const IpAddress& address, unsigned prefix) {
  return Cidr::parse(fmt::format("{}/{}", address, prefix), true);
}

node_path element_of(const Cidr& destination, const Path& path) {
  node_path out{};
  const bool is_v4 = destination.base().is_v4();
  const unsigned first = is_v4 ? 96 : 0;  // the address is the last word
  for (unsigned bit = 0; bit < destination.prefix(); ++bit) {
    out.mask.words[(first + bit) / 32] |= __builtin_bswap32(1U << (31 - bit % 32));
  }
  out.network = is_v4 ? ipv6_address{{0, 0, 0, destination.base().v4_be()}} : to_abi_v6(destination.base());
  out.node = to_mapped(path.node);
  out.family = is_v4 ? 4 : 6;
  return out;
}

bool operator==(const node_path& a, const node_path& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

// The entries of a map of the pods' programs; 0: they have none of that name.
std::uint32_t entries_of(const BpfPodPrograms& programs, const char* name) {
  bpf_map_info info{};
  __u32 length = sizeof(info);
  return bpf_obj_get_info_by_fd(programs.map_fd(name), &info, &length) == 0 ? info.max_entries : 0;
}

// Opens, configures and loads a skeleton over the maps of the pods' programs.
template <class Skeleton>
Result<> load_over(Skeleton& skeleton, const BpfPodPrograms& programs) {
  auto& sizes = *skeleton.rodata;
  const auto tell = [&](const std::string& set, auto& buckets, auto& shard_slots, auto& ring_size) {
    for (const std::size_t family : {0, 1}) {
      const std::string maps = set + (family == 0 ? "ct4" : "ct6");
      const_cast<std::uint32_t&>(buckets[family]) = entries_of(programs, maps.c_str());
      const_cast<std::uint32_t&>(shard_slots[family]) = entries_of(programs, (maps + "_slots").c_str()) / CT_SHARDS;
      const_cast<std::uint32_t&>(ring_size[family]) = entries_of(programs, (maps + "_ring").c_str());
    }
  };
  sizes.service_elements = entries_of(programs, "services");
  tell("", sizes.ct_buckets, sizes.ct_shard_slots, sizes.ct_ring_size);
  // One element each, which is no shard, where nothing moves.
  tell("old_", sizes.ct_old_buckets, sizes.ct_old_shard_slots, sizes.ct_old_ring_size);
  return load_sharing(skeleton.obj, [&](const char* map) { return programs.map_fd(map); });
}

}  // namespace

struct BpfNodePaths::Objects {
  Object<host_bpf, host_bpf__destroy> host;
  Object<overlay_bpf, overlay_bpf__destroy> overlay;
  Map<path_key_v4, path> paths4;
  Map<path_key_v6, path> paths6;
  Map<std::uint32_t, node_path> nodes;
  Map<std::uint32_t, path_config> config;

  Result<> put(const Cidr& destination, const path& value) {
    return destination.base().is_v4() ? paths4.update(key_v4(destination), value)
                                      : paths6.update(key_v6(destination), value);
  }
  Result<bool> erase(const Cidr& destination) {
    return destination.base().is_v4() ? paths4.erase(key_v4(destination)) : paths6.erase(key_v6(destination));
  }
  std::array<DeviceHook, 2> uplink_hooks(std::uint32_t ifindex) const {
    return {{{ifindex, false, host->progs.from_uplink}, {ifindex, true, host->progs.to_uplink}}};
  }
  std::array<DeviceHook, 2> tunnel_hooks(std::uint32_t ifindex) const {
    return {{{ifindex, false, overlay->progs.from_overlay}, {ifindex, true, overlay->progs.to_overlay}}};
  }
};

BpfNodePaths::BpfNodePaths(std::unique_ptr<Objects> objects, const BpfRoot& root)
    : objects_(std::move(objects)), root_(root) {}
BpfNodePaths::~BpfNodePaths() = default;

Result<std::unique_ptr<BpfNodePaths>> BpfNodePaths::load(const BpfPodPrograms& programs, const BpfRoot& root) {
  auto objects = std::make_unique<Objects>();
  objects->host.reset(host_bpf__open());
  objects->overlay.reset(overlay_bpf__open());
  if (objects->host == nullptr || objects->overlay == nullptr) {
    return fail_errno(errno, "open BPF objects host and overlay");
  }
  FL_TRY(load_over(*objects->host, programs));
  FL_TRY(load_over(*objects->overlay, programs));
  FL_LET(objects->paths4, decltype(objects->paths4)::duplicate(programs.map_fd("paths4")));
  FL_LET(objects->paths6, decltype(objects->paths6)::duplicate(programs.map_fd("paths6")));
  FL_LET(objects->nodes, decltype(objects->nodes)::duplicate(programs.map_fd("node_paths")));
  FL_LET(objects->config, decltype(objects->config)::duplicate(programs.map_fd("path_config")));
  std::unique_ptr<BpfNodePaths> paths(new BpfNodePaths(std::move(objects), root));
  FL_TRY(paths->adopt());
  return paths;
}

// Takes over a path that an earlier agent wrote, or finds it broken: killed between two writes.
Result<> BpfNodePaths::adopt(const Cidr& destination, const path& record, std::vector<Cidr>& broken) {
  Held held;
  if (record.kind == PATH_NODE) {
    FL_LET(const auto element, objects_->nodes.lookup(record.index));
    held = {{PathKind::kNode, element ? from_mapped(element->node) : IpAddress()}, record.index};
    if (!element || *element != element_of(destination, held.path) || elements_.contains(record.index)) {
      broken.push_back(destination);
      return {};
    }
    elements_[record.index] = destination;
  }
  held_[destination] = held;
  ++lengths_[{destination.family(), destination.prefix()}];
  return {};
}

Result<> BpfNodePaths::adopt() {
  std::vector<std::pair<Cidr, path>> there;
  const auto note = [&](const IpAddress& base, unsigned prefix, const path& record) {
    const auto destination = masked(base, prefix);
    if (destination) there.emplace_back(*destination, record);
  };
  FL_TRY(objects_->paths4.for_each(
      [&](const path_key_v4& key, const path& record) { note(from_abi(key.address), key.prefix, record); }));
  FL_TRY(objects_->paths6.for_each(
      [&](const path_key_v6& key, const path& record) { note(from_abi(key.address), key.prefix, record); }));
  std::vector<Cidr> broken;
  for (const auto& [destination, record] : there) FL_TRY(adopt(destination, record, broken));
  for (const Cidr& destination : broken) FL_TRY(objects_->erase(destination));
  std::vector<std::uint32_t> strays;
  FL_TRY(objects_->nodes.for_each([&](std::uint32_t index, const node_path& element) {
    if (element.family != 0 && !elements_.contains(index)) strays.push_back(index);
  }));
  for (const std::uint32_t index : strays) FL_TRY(objects_->nodes.update(index, {}));
  FL_LET(const auto first, objects_->config.lookup(0));
  if (!first || first->current == 0) return {};
  FL_LET(const auto config, objects_->config.lookup(first->current));
  if (config) config_ = *config;
  config_.current = first->current;
  return {};
}

Result<std::uint32_t> BpfNodePaths::free_element() {
  if (elements_.size() >= MAX_NODE_PATHS) return fail(Code::kExhausted, "map node_paths is full ({})", MAX_NODE_PATHS);
  while (elements_.contains(next_element_)) next_element_ = (next_element_ + 1) % MAX_NODE_PATHS;
  return std::exchange(next_element_, (next_element_ + 1) % MAX_NODE_PATHS);
}

// The element first, then what leads to it, then the old one goes, and with it what remembers it.
Result<> BpfNodePaths::write(const Cidr& destination, const Path& path) {
  const auto at = held_.find(destination);
  const bool had_element = at != held_.end() && at->second.path.kind == PathKind::kNode;
  Held held{path, 0};
  if (path.kind == PathKind::kNode) {
    FL_LET(held.element, free_element());
    FL_TRY(objects_->nodes.update(held.element, element_of(destination, path)));
  }
  const std::uint32_t kind = path.kind == PathKind::kNode ? PATH_NODE : PATH_DIRECT;
  if (auto put = objects_->put(destination, {kind, held.element}); !put) {
    if (path.kind == PathKind::kNode) (void)objects_->nodes.update(held.element, {});
    return put;
  }
  if (path.kind == PathKind::kNode) elements_[held.element] = destination;
  if (had_element) {
    elements_.erase(at->second.element);
    FL_TRY(objects_->nodes.update(at->second.element, {}));
  }
  if (at == held_.end()) ++lengths_[{destination.family(), destination.prefix()}];
  held_[destination] = held;
  return {};
}

// Gives the paths that `destination` lies within new elements: what remembers them for an address in it looks again.
Result<> BpfNodePaths::renew_around(const Cidr& destination) {
  for (unsigned length = 0; length < destination.prefix(); ++length) {
    if (!lengths_.contains({destination.family(), length})) continue;
    FL_LET(const Cidr around, masked(destination.base(), length));
    const auto at = held_.find(around);
    if (at != held_.end() && at->second.path.kind == PathKind::kNode) FL_TRY(write(around, Path(at->second.path)));
  }
  return {};
}

Result<> BpfNodePaths::set_path(const Cidr& destination, const Path& path) {
  if (path.kind == PathKind::kNode && path.node.is_unspecified()) {
    return fail(Code::kInvalid, "path to {}: no node address", destination.str());
  }
  const auto at = held_.find(destination);
  if (at != held_.end() && at->second.path == path) return {};
  const bool is_new = at == held_.end();
  FL_TRY(write(destination, path));
  return is_new ? renew_around(destination) : Result<>();
}

Result<> BpfNodePaths::erase_path(const Cidr& destination) {
  const auto at = held_.find(destination);
  if (at == held_.end()) return {};
  FL_TRY(objects_->erase(destination));
  if (at->second.path.kind == PathKind::kNode) {
    FL_TRY(objects_->nodes.update(at->second.element, {}));
    elements_.erase(at->second.element);
  }
  const auto length = lengths_.find({destination.family(), destination.prefix()});
  if (--length->second == 0) lengths_.erase(length);
  held_.erase(at);
  return {};
}

Result<std::map<Cidr, Path>> BpfNodePaths::paths() const {
  std::map<Cidr, Path> out;
  for (const auto& [destination, held] : held_) out[destination] = held.path;
  return out;
}

// The element that is not in force is written whole, then it is.
Result<> BpfNodePaths::configure(const path_config& wanted) {
  path_config next = wanted;
  next.current = 0;
  path_config now = config_;
  now.current = 0;
  if (config_.current != 0 && std::memcmp(&next, &now, sizeof(next)) == 0) return {};
  const std::uint32_t place = config_.current == 1 ? 2 : 1;
  path_config first{};
  first.current = place;
  FL_TRY(objects_->config.update(place, next));
  FL_TRY(objects_->config.update(0, first));
  config_ = next;
  config_.current = place;
  return {};
}

Result<> BpfNodePaths::set_masquerade(const Masquerade& masquerade) {
  if (masquerade.first_port == 0 || masquerade.first_port > masquerade.last_port) {
    return fail(Code::kInvalid, "masquerade: ports {}-{} are no range", masquerade.first_port, masquerade.last_port);
  }
  path_config wanted = config_;
  wanted.masquerade_v4 = 0;
  wanted.masquerade_v6 = {};
  for (const IpAddress& address : masquerade.addresses) {
    if (address.is_v4()) {
      wanted.masquerade_v4 = address.v4_be();
    } else {
      wanted.masquerade_v6 = to_abi_v6(address);
    }
  }
  wanted.first_port = masquerade.first_port;
  wanted.last_port = masquerade.last_port;
  return configure(wanted);
}

Result<> BpfNodePaths::set_tunnel(const std::optional<Tunnel>& tunnel) {
  path_config wanted = config_;
  wanted.tunnel = tunnel ? tunnel->ifindex : 0;
  wanted.vni = tunnel ? tunnel->vni : 0;
  return configure(wanted);
}

Result<> BpfNodePaths::attach_uplink(std::uint32_t ifindex) {
  const auto hooks = objects_->uplink_hooks(ifindex);
  for (const DeviceHook& hook : hooks) FL_TRY(attach_hook(hook, root_));
  hooks_[ifindex] = hooks;
  path_config wanted = config_;
  const std::span<std::uint32_t> uplinks(wanted.uplinks);
  if (std::ranges::count(uplinks, ifindex) != 0) return {};
  const auto free = std::ranges::find(uplinks, 0U);
  if (free == uplinks.end()) return fail(Code::kExhausted, "device #{}: there are {} uplinks", ifindex, MAX_UPLINKS);
  *free = ifindex;
  return configure(wanted);
}

Result<> BpfNodePaths::attach_tunnel(std::uint32_t ifindex) {
  const auto hooks = objects_->tunnel_hooks(ifindex);
  for (const DeviceHook& hook : hooks) FL_TRY(attach_hook(hook, root_));
  hooks_[ifindex] = hooks;
  return {};
}

Result<> BpfNodePaths::attach_known() {
  for (const std::uint32_t ifindex : config_.uplinks) {
    if (ifindex == 0) continue;
    if (auto done = attach_uplink(ifindex); !done && done.error().sys != ENODEV) return done;
  }
  if (config_.tunnel == 0) return {};
  auto done = attach_tunnel(config_.tunnel);
  return done || done.error().sys == ENODEV ? Result<>() : done;
}

Result<bool> BpfNodePaths::attached(std::uint32_t ifindex) const {
  const auto at = hooks_.find(ifindex);
  if (at == hooks_.end()) return false;
  for (const DeviceHook& hook : at->second) {
    FL_LET(const bool there, is_attached(hook, root_));
    if (!there) return false;
  }
  return true;
}

Result<std::set<std::uint32_t>> BpfNodePaths::leftovers(const std::vector<std::uint32_t>& there) const {
  std::set<std::uint32_t> found;
  for (const std::uint32_t ifindex : config_.uplinks) {
    if (ifindex != 0) found.insert(ifindex);
  }
  for (const bpf_program* program : {objects_->host->progs.from_uplink, objects_->host->progs.to_uplink,
                                     objects_->overlay->progs.from_overlay, objects_->overlay->progs.to_overlay}) {
    FL_LET(const std::set<std::uint32_t> pinned, devices_with(program, root_));
    found.insert(pinned.begin(), pinned.end());
  }
  for (const std::uint32_t ifindex : there) {
    if (hooks_.contains(ifindex) || found.contains(ifindex)) continue;
    for (const DeviceHook& hook : objects_->uplink_hooks(ifindex)) {
      FL_LET(const bool filter, has_filter(hook));
      if (filter) found.insert(ifindex);
    }
  }
  std::erase_if(found, [this](std::uint32_t ifindex) { return hooks_.contains(ifindex); });
  return found;
}

Result<> BpfNodePaths::detach(std::uint32_t ifindex) {
  path_config wanted = config_;
  const std::span<std::uint32_t> uplinks(wanted.uplinks);
  const auto rest = std::ranges::remove(uplinks, ifindex);
  std::ranges::fill(rest, 0U);
  FL_TRY(configure(wanted));
  hooks_.erase(ifindex);
  // An earlier agent may have taken it for the other kind.
  for (const auto& hooks : {objects_->uplink_hooks(ifindex), objects_->tunnel_hooks(ifindex)}) {
    for (const DeviceHook& hook : hooks) FL_TRY(detach_hook(hook, root_));
  }
  return {};
}

Result<std::map<std::string, std::vector<ProgramFacts>>> BpfNodePaths::facts() const {
  std::map<std::string, std::vector<ProgramFacts>> out;
  FL_LET(out["host"], program_facts(objects_->host->obj));
  FL_LET(out["overlay"], program_facts(objects_->overlay->obj));
  return out;
}

}  // namespace fairlead::datapath
