// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/conntrack.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <array>
#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "agent/datapath/abi.h"
#include "agent/datapath/map.h"
#include "agent/datapath/mapped_array.h"
#include "agent/datapath/pod_programs.h"
#include "bpf/abi/conntrack.h"

namespace fairlead::datapath {
namespace {

constexpr std::array<std::string_view, 32> kStateNames = [] {
  std::array<std::string_view, 32> names{};
#define STATE_NAME(number, constant, name, seconds) names[number] = name;
  CT_STATES(STATE_NAME)
#undef STATE_NAME
  return names;
}();

// A program of two instructions: the only way to see jiffies, by which deadlines count.
Result<UniqueFd> load_clock() {
  const bpf_insn code[] = {
      {.code = BPF_JMP | BPF_CALL, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = BPF_FUNC_jiffies64},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  UniqueFd program(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "ct_clock", "GPL", code, std::size(code), nullptr));
  if (!program) return fail_errno(errno, "program ct_clock: load");
  return program;
}

SocketAddress end_of(const auto& address, std::uint16_t port_be) {
  return {from_abi(address), ntohs(port_be)};
}

bool is_there(std::uint32_t tag) {
  const std::uint32_t life = tag & CT_LIFE_MASK;
  return life == CT_NEW || life == CT_ANSWERED;
}

std::uint32_t load(const std::uint32_t& field) {
  return std::atomic_ref<std::uint32_t>(const_cast<std::uint32_t&>(field)).load(std::memory_order_acquire);
}

}  // namespace

struct Conntrack::Maps {
  MappedArray<ct_slot_v4> v4;
  MappedArray<ct_slot_v6> v6;
  Map<std::uint32_t, ct_shard> shards;
  Map<std::uint32_t, ct_config> config;
  int counters = -1;  // the programs'
  UniqueFd clock;

  void unmap_much() {
    v4.unmap_much();
    v6.unmap_much();
  }

  // Shards of both families, IPv4's first.
  Result<std::array<ct_shard, 2 * CT_SHARDS>> read_shards() const {
    std::array<ct_shard, 2 * CT_SHARDS> all{};
    FL_TRY(shards.for_each([&](std::uint32_t key, const ct_shard& shard) { all[key] = shard; }));
    return all;
  }

  Result<std::uint32_t> jiffies() const {
    std::array<std::uint8_t, 64> frame{};
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_size_in = frame.size());
    const int status = bpf_prog_test_run_opts(clock.get(), &options);
    if (status != 0) return fail_errno(-status, "program ct_clock: run");
    return options.retval;
  }

  Result<std::uint32_t> hz() const {
    FL_LET(const auto now, config.lookup(0));
    return now && now->hz != 0 ? now->hz : 1;
  }

  std::uint32_t per_shard(Family family) const { return (family == Family::kV4 ? v4.size() : v6.size()) / CT_SHARDS; }
};

namespace {

// The connection in the slot, unless there is none, it is past its deadline, or changed while it was read.
template <class Slot>
std::optional<Connection> read_slot(const Slot& slot, std::uint32_t number, std::uint32_t now, std::uint32_t hz) {
  const std::uint32_t tag = load(slot.head.tag);
  if (!is_there(tag)) return std::nullopt;
  Slot copy;
  std::memcpy(&copy, &slot, sizeof(copy));
  std::atomic_thread_fence(std::memory_order_acquire);
  const std::uint32_t after = load(slot.head.tag);
  if (after >> CT_LIFE_BITS != tag >> CT_LIFE_BITS || !is_there(after)) return std::nullopt;
  const auto left = static_cast<std::int32_t>(copy.head.deadline - now);
  if (left < 0) return std::nullopt;
  const auto age = static_cast<std::int32_t>(now - copy.head.created);
  return Connection{.family = std::is_same_v<Slot, ct_slot_v4> ? Family::kV4 : Family::kV6,
                    .protocol = copy.head.protocol,
                    .state = kStateNames[copy.head.state % kStateNames.size()],
                    .answered = (after & CT_LIFE_MASK) == CT_ANSWERED,
                    .translated = (copy.head.flags & CT_TRANSLATED) != 0,
                    .client = end_of(copy.client, copy.client_port),
                    .server = end_of(copy.server, copy.server_port),
                    .from = end_of(copy.from, copy.from_port),
                    .to = end_of(copy.to, copy.to_port),
                    .age = std::chrono::seconds(std::max(age, 0) / static_cast<std::int32_t>(hz)),
                    .expires_in = std::chrono::seconds(left / static_cast<std::int32_t>(hz)),
                    .slot = number,
                    .tag = after};
}

}  // namespace

Conntrack::Conntrack(std::unique_ptr<Maps> maps) : maps_(std::move(maps)) {}
Conntrack::~Conntrack() = default;

Result<std::unique_ptr<Conntrack>> Conntrack::open(const BpfPodPrograms& programs) {
  const auto slots = [&]<class Slot>(const char* name, Slot) -> Result<MappedArray<Slot>> {
    FL_LET(const auto map, (Map<std::uint32_t, Slot>::duplicate(programs.map_fd(name))));
    return MappedArray<Slot>::open(map.fd(), map.capacity(), name);
  };
  FL_LET(auto v4, slots("ct4_slots", ct_slot_v4{}));
  FL_LET(auto v6, slots("ct6_slots", ct_slot_v6{}));
  FL_LET(auto shards, (Map<std::uint32_t, ct_shard>::duplicate(programs.map_fd("ct_shards"))));
  FL_LET(auto config, (Map<std::uint32_t, ct_config>::duplicate(programs.map_fd("ct_config"))));
  FL_LET(UniqueFd clock, load_clock());
  return std::unique_ptr<Conntrack>(
      new Conntrack(std::make_unique<Maps>(std::move(v4), std::move(v6), std::move(shards), std::move(config),
                                           programs.map_fd("ct_counters"), std::move(clock))));
}

Result<> Conntrack::configure(const config::ConntrackSettings& settings) {
  FL_LET(const auto found, maps_->config.lookup(0));
  if (!found || found->hz == 0) return fail(Code::kSystem, "map ct_config was not set up");
  ct_config wanted = *found;
  const auto set = [&](ct_state state, std::chrono::milliseconds time) {
    if (time.count() > 0) wanted.timeouts[state] = static_cast<__u32>(time.count() * wanted.hz / 1000);
  };
#define DEFAULT_TIMEOUT(number, constant, name, default_s) set(constant, std::chrono::seconds(default_s));
  CT_STATES(DEFAULT_TIMEOUT)
#undef DEFAULT_TIMEOUT
  set(CT_TCP_ESTABLISHED, settings.tcp_established_timeout);
  set(CT_TCP_CLOSE_WAIT, settings.tcp_close_wait_timeout);
  set(CT_UDP_SINGLE, settings.udp_timeout);
  set(CT_UDP_STREAM, settings.udp_stream_timeout);
  if (std::memcmp(&wanted, &*found, sizeof(wanted)) == 0) return {};
  return maps_->config.update(0, wanted);
}

Result<std::optional<ConntrackCursor>> Conntrack::walk(ConntrackCursor begin,
                                                       const std::function<bool(const Connection&)>& visit) const {
  FL_LET(const auto shards, maps_->read_shards());
  FL_LET(const std::uint32_t now, maps_->jiffies());
  FL_LET(const std::uint32_t hz, maps_->hz());
  const std::uint64_t v4_slots = maps_->v4.size();
  for (ConntrackCursor at = begin; at < v4_slots + maps_->v6.size();) {
    const Family family = at < v4_slots ? Family::kV4 : Family::kV6;
    const auto number = static_cast<std::uint32_t>(at < v4_slots ? at : at - v4_slots);
    const std::uint32_t per_shard = maps_->per_shard(family);
    const std::uint32_t shard = number / per_shard;
    if (shard < CT_SHARDS && number % per_shard >= shards[shard + (family == Family::kV4 ? 0 : CT_SHARDS)].fresh) {
      at += per_shard - number % per_shard;  // the rest was never used
      continue;
    }
    ++at;
    if (number % 4096 == 0) maps_->unmap_much();
    const auto connection = family == Family::kV4 ? read_slot(maps_->v4[number], number, now, hz)
                                                  : read_slot(maps_->v6[number], number, now, hz);
    if (connection && !visit(*connection)) return at;
  }
  return std::nullopt;
}

bool Conntrack::end(const Connection& connection) {
  std::uint32_t& tag =
      connection.family == Family::kV4 ? maps_->v4[connection.slot].head.tag : maps_->v6[connection.slot].head.tag;
  const std::uint32_t generation = connection.tag & ~CT_LIFE_MASK;
  // It may be answered meanwhile.
  for (const std::uint32_t life : {connection.tag & CT_LIFE_MASK, std::uint32_t{CT_ANSWERED}}) {
    std::uint32_t expected = generation | life;
    if (std::atomic_ref<std::uint32_t>(tag).compare_exchange_strong(expected, generation | CT_CONDEMNED)) return true;
  }
  return false;
}

Result<ConntrackUsage> Conntrack::usage() const {
  ConntrackUsage out;
  out.v4.capacity = maps_->v4.size();
  out.v6.capacity = maps_->v6.size();
  FL_TRY(walk(0, [&](const Connection& connection) {
    auto& table = connection.family == Family::kV4 ? out.v4 : out.v6;
    ++table.used;
    table.unreplied += connection.answered ? 0 : 1;
    return true;
  }));
  static constexpr std::pair<std::uint32_t, const char*> kCounters[] = {
#define COUNTER_NAME(number, constant, name) {number, name},
      CT_COUNTERS(COUNTER_NAME)
#undef COUNTER_NAME
  };
  std::vector<std::uint64_t> per_cpu(static_cast<std::size_t>(libbpf_num_possible_cpus()));
  for (const auto& [key, name] : kCounters) {
    if (bpf_map_lookup_elem(maps_->counters, &key, per_cpu.data()) != 0) {
      return fail_errno(errno, fmt::format("map ct_counters: read {}", name));
    }
    for (const std::uint64_t cpu : per_cpu) out.counters[name] += cpu;
  }
  FL_LET(const auto shards, maps_->read_shards());
  FL_LET(const std::uint32_t now, maps_->jiffies());
  FL_LET(const std::uint32_t hz, maps_->hz());
  for (const ct_shard& shard : shards) {
    const auto ago = static_cast<std::int32_t>(now - shard.swept);
    out.last_sweep = std::max(out.last_sweep, std::chrono::seconds(ago / static_cast<std::int32_t>(hz)));
  }
  return out;
}

}  // namespace fairlead::datapath
