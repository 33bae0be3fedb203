// SPDX-License-Identifier: Apache-2.0
#include "test/bpf/model_stamps.h"

#include <bpf/bpf.h>

#include <algorithm>

#include "bpf/abi/service.h"

namespace fairlead::model {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kLongAgo = 1U << 20;  // jiffies

Result<UniqueFd> open_map(const datapath::BpfRoot& root, const char* name) {
  UniqueFd fd(bpf_obj_get(root.map_path(name).c_str()));
  if (!fd) return fail_errno(errno, fmt::format("map {}: open", name));
  return fd;
}

template <class Slot>
Result<datapath::MappedArray<Slot>> open_slots(const datapath::BpfRoot& root, const char* name) {
  FL_LET(const UniqueFd fd, open_map(root, name));
  bpf_map_info info{};
  std::uint32_t size = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0) return fail_errno(errno, fmt::format("map {}", name));
  return datapath::MappedArray<Slot>::open(fd.get(), info.max_entries, name);
}

// Every key of a hash, whatever it is.
std::vector<std::vector<std::uint8_t>> keys_of(int map) {
  std::vector<std::vector<std::uint8_t>> keys;
  std::vector<std::uint8_t> key(64);
  while (bpf_map_get_next_key(map, keys.empty() ? nullptr : keys.back().data(), key.data()) == 0) keys.push_back(key);
  return keys;
}

// `change(value)` for every element of a hash.
template <class Value, class Change>
void for_each(int map, Change change) {
  for (const auto& key : keys_of(map)) {
    Value value{};
    if (bpf_map_lookup_elem(map, key.data(), &value) != 0) continue;
    change(value);
    bpf_map_update_elem(map, key.data(), &value, BPF_EXIST);
  }
}

void clear(int map) {
  for (const auto& key : keys_of(map)) bpf_map_delete_elem(map, key.data());
}

bool is_alive(std::uint32_t tag) {
  const std::uint32_t life = tag & CT_LIFE_MASK;
  return life == CT_NEW || life == CT_ANSWERED;
}

}  // namespace

Result<std::unique_ptr<Stamps>> Stamps::open(const datapath::BpfRoot& root, std::uint32_t jiffies) {
  FL_LET(auto slots4, open_slots<ct_slot_v4>(root, "ct4_slots"));
  FL_LET(auto slots6, open_slots<ct_slot_v6>(root, "ct6_slots"));
  FL_LET(UniqueFd frags4, open_map(root, "frags4"));
  FL_LET(UniqueFd frags6, open_map(root, "frags6"));
  FL_LET(UniqueFd affinity4, open_map(root, "affinity4"));
  FL_LET(UniqueFd affinity6, open_map(root, "affinity6"));
  FL_LET(UniqueFd shards, open_map(root, "ct_shards"));
  FL_LET(const UniqueFd config_map, open_map(root, "ct_config"));
  ct_config config{};
  const std::uint32_t zero = 0;
  if (bpf_map_lookup_elem(config_map.get(), &zero, &config) != 0 || config.hz == 0)
    return fail(Code::kSystem, "map ct_config: nobody has written it");
  return std::unique_ptr<Stamps>(new Stamps({std::move(slots4), std::move(frags4), std::move(affinity4)},
                                            {std::move(slots6), std::move(frags6), std::move(affinity6)},
                                            std::move(shards), config.hz, jiffies));
}

template <class Slot, class Change>
Result<> Stamps::for_each_connection(Slots<Slot>& family, std::uint32_t number, Change change) {
  const std::uint32_t slots_of_shard = family.slots.size() / CT_SHARDS;
  for (std::uint32_t i = 0; i < CT_SHARDS; ++i) {
    const std::uint32_t at = number * CT_SHARDS + i;
    ct_shard shard{};
    if (bpf_map_lookup_elem(shards_.get(), &at, &shard) != 0) return fail_errno(errno, "map ct_shards");
    for (std::uint32_t used = 0; used < shard.fresh; ++used) {
      // Tag and deadline are one word: whoever ends the connection meanwhile wins.
      auto& word = *reinterpret_cast<std::uint64_t*>(&family.slots[i * slots_of_shard + used].head);
      std::atomic_ref<std::uint64_t> shared(word);
      std::uint64_t before = shared.load();
      const auto tag = static_cast<std::uint32_t>(before);
      const auto deadline = static_cast<std::uint32_t>(before >> 32);
      if (is_alive(tag)) shared.compare_exchange_strong(before, std::uint64_t{change(deadline)} << 32 | tag);
    }
  }
  return {};
}

Result<> Stamps::age(std::chrono::milliseconds time) {
  const std::uint32_t now = jiffies_now();
  const std::chrono::nanoseconds jiffy = std::chrono::nanoseconds(1s) / hz_;
  const std::int64_t shift = (time - since_aged()) / jiffy;
  const std::chrono::nanoseconds shifted = shift * jiffy;
  aged_ += time - shifted;  // what is less than a jiffy is left for the next time
  const auto by = static_cast<std::uint32_t>(shift);
  const auto change = [now, by](std::uint32_t deadline) {
    const bool expired = static_cast<std::int32_t>(deadline - now) <= 0;
    return expired ? deadline : deadline - by;  // else it would come to life again when jiffies wrap
  };
  FL_TRY(for_each_connection(v4_, 0, change));
  FL_TRY(for_each_connection(v6_, 1, change));
  for (const UniqueFd* fragments : {&v4_.fragments, &v6_.fragments})
    for_each<frag>(fragments->get(), [by](frag& each) { each.seen -= by; });
  for (const UniqueFd* affinities : {&v4_.affinities, &v6_.affinities})
    for_each<affinity>(affinities->get(),
                       [&](affinity& each) { each.seen_ns -= static_cast<std::uint64_t>(shifted.count()); });
  return {};
}

Result<> Stamps::end_all() {
  const std::uint32_t now = jiffies_now();
  const auto end = [now](std::uint32_t) { return now - kLongAgo; };
  FL_TRY(for_each_connection(v4_, 0, end));
  FL_TRY(for_each_connection(v6_, 1, end));
  for (const UniqueFd* map : {&v4_.fragments, &v6_.fragments, &v4_.affinities, &v6_.affinities}) clear(map->get());
  aged_ = std::chrono::steady_clock::now();
  return {};
}

}  // namespace fairlead::model
