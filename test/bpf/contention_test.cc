// SPDX-License-Identifier: Apache-2.0
// Packets of the same connections on both processors at the same time, while connections expire, are swept, ended and
// reclaimed and their backends go: no key, slot or count is left behind.
#include <sched.h>

#include <atomic>
#include <random>
#include <thread>

#include "agent/datapath/conntrack.h"
#include "test/bpf/packet_path_fixture.h"
#include "test/kit/process.h"

namespace fairlead::datapath {
namespace {

constexpr std::uint16_t kPort = 80;
constexpr std::uint16_t kTarget = 8080;
constexpr std::uint16_t kFirstClient = 40'000;
constexpr int kClients = 1500;  // more than there are slots
constexpr int kPackets = 60'000;

struct Walk {
  std::map<std::uint32_t, std::uint32_t> lives;  // how many slots are in which state of life
  std::multiset<std::uint64_t> keys;             // what the index should say of those that hold a connection
};

std::uint64_t hash_of(const ct_slot_v4& slot, bool reverse, std::uint64_t seed) {
  return ct_hash_of(
      ct_hash_end_v4(reverse ? slot.from : slot.client, reverse ? slot.from_port : slot.client_port, seed),
      ct_hash_end_v4(reverse ? slot.to : slot.server, reverse ? slot.to_port : slot.server_port, seed),
      slot.head.protocol);
}

std::uint64_t hash_of(const ct_slot_v6& slot, bool reverse, std::uint64_t seed) {
  const ipv6_address& one = reverse ? slot.from : slot.client;
  const ipv6_address& other = reverse ? slot.to : slot.server;
  return ct_hash_of(ct_hash_end_v6(&one, reverse ? slot.from_port : slot.client_port, seed),
                    ct_hash_end_v6(&other, reverse ? slot.to_port : slot.server_port, seed), slot.head.protocol);
}

class Contention : public PacketPath {
 protected:
  void SetUp() override {
    PacketPath::SetUp();
    config_ = Map<std::uint32_t, ct_config>::open(path_->root().map_path("ct_config")).value();
    usual_ = *config_.lookup(0).value();
  }
  void TearDown() override { EXPECT_TRUE(config_.update(0, usual_)); }

  // All connections last so many jiffies from here on.
  void set_timeouts(std::uint32_t jiffies) {
    ct_config quick = usual_;
    std::ranges::fill(quick.timeouts, jiffies);
    ASSERT_TRUE(config_.update(0, quick));
  }

  static void serve_all(const std::function<std::vector<Backend>(const FamilyCase&)>& backends) {
    for (const FamilyCase& each : families()) {
      for (const Protocol protocol : {Protocol::kUdp, Protocol::kTcp}) {
        serve(each.service, kPort, protocol, backends(each));
      }
    }
  }
  static std::vector<Backend> both(const FamilyCase& each) {
    return {{b_.address(each.family), kTarget}, {a_.address(each.family), kTarget}};
  }

  // One packet of some connection: a's to the Service or to the backend itself, or an answer of b's.
  static void send_one(std::mt19937& random) {
    const FamilyCase& each = families()[random() % families().size()];
    const auto client = static_cast<std::uint16_t>(kFirstClient + random() % kClients);
    static constexpr std::uint8_t kFlags[] = {kSyn, kSyn | kAck, kAck, kAck, kFin | kAck, kRst};
    const std::uint8_t flags = kFlags[random() % std::size(kFlags)];
    const bool tcp = random() % 2 == 0;
    const auto make = [&](std::uint16_t from, std::uint16_t to) {
      return tcp ? testkit::tcp(from, to, flags) : testkit::udp(from, to);
    };
    switch (random() % 3) {
      case 0:
        from_pod(a_, sent(a_, each.service, make(client, kPort)));
        break;
      case 1:
        from_pod(a_, sent(a_, b_.address(each.family), make(client, kTarget)));
        break;
      default:
        from_pod(b_, sent(b_, a_.address(each.family), make(kTarget, client)));
    }
  }

  // Sends from both processors at once, and calls `meanwhile` as long as that takes.
  static void on_both_processors(int packets, const std::function<void()>& meanwhile) {
    std::atomic<int> busy = 2;
    std::vector<std::jthread> senders;
    for (int cpu = 0; cpu < 2; ++cpu) {
      senders.emplace_back([&busy, cpu, packets] {
        cpu_set_t only;
        CPU_ZERO(&only);
        CPU_SET(cpu, &only);
        EXPECT_EQ(sched_setaffinity(0, sizeof(only), &only), 0);
        std::mt19937 random(static_cast<unsigned>(cpu) + 1);
        for (int i = 0; i < packets; ++i) send_one(random);
        --busy;
      });
    }
    while (busy != 0) meanwhile();
  }

  // Ends each n-th connection, as the agent does.
  static void end_some(int n) {
    const auto table = Conntrack::open(path_->pods()).value();
    int at = 0;
    EXPECT_TRUE(table->walk(0, [&](const Connection& connection) {
      if (++at % n == 0) table->end(connection);
      return true;
    }));
  }

  template <class Slot>
  Walk walk(const char* name) const {
    Walk out;
    const auto map = Map<std::uint32_t, Slot>::open(path_->root().map_path(name)).value();
    EXPECT_TRUE(map.for_each([&](std::uint32_t index, const Slot& slot) {
      const std::uint32_t life = slot.head.tag & CT_LIFE_MASK;
      ++out.lives[life];
      if (life != CT_NEW && life != CT_ANSWERED) return;
      for (const bool reverse : {false, true}) {
        if (reverse && (slot.head.flags & CT_TRANSLATED) == 0) continue;
        const std::uint64_t hash = hash_of(slot, reverse, usual_.seed);
        out.keys.insert(CT_ENTRY(hash, index, slot.head.tag >> CT_LIFE_BITS));
      }
    }));
    return out;
  }

  // Every entry leads to a connection, and every connection is led to by as many as it should be.
  template <class Slot>
  void expect_whole(const char* slots, const char* index) const {
    const Walk there = walk<Slot>(slots);
    EXPECT_FALSE(there.keys.empty());
    EXPECT_EQ(index_entries(path_->root(), index), there.keys) << index;
  }

  // Nothing is left: no entry, and every slot is free and to be had.
  template <class Slot>
  static void expect_empty(const char* slots, const char* index, std::uint32_t first_shard) {
    EXPECT_TRUE(index_entries(path_->root(), index).empty()) << index;
    const auto buckets = Map<std::uint32_t, ct_bucket>::open(path_->root().map_path(index)).value();
    EXPECT_TRUE(buckets.for_each([&](std::uint32_t number, const ct_bucket& bucket) {
      EXPECT_EQ(bucket.spilled, 0U) << index << ", bucket " << number;
    }));
    const auto map = Map<std::uint32_t, Slot>::open(path_->root().map_path(slots)).value();
    const auto shards = Map<std::uint32_t, ct_shard>::open(path_->root().map_path("ct_shards")).value();
    std::uint32_t free = 0;
    for (std::uint32_t shard = 0; shard < CT_SHARDS; ++shard) {
      const ct_shard state = *shards.lookup(first_shard + shard).value();
      free += map.capacity() / CT_SHARDS - std::min(state.fresh, map.capacity() / CT_SHARDS);
      for (auto at = static_cast<std::uint32_t>(state.free); at != 0 && free <= map.capacity(); ++free) {
        const Slot slot = *map.lookup(at - 1).value();
        EXPECT_EQ(slot.head.tag & CT_LIFE_MASK, unsigned{CT_FREE});
        at = slot.head.next;
      }
    }
    EXPECT_EQ(free, map.capacity()) << slots;
  }

  static std::uint64_t open_connections(const char* name) {
    std::uint64_t open = 0;
    const auto map = Map<std::uint32_t, backend_use>::open(path_->root().map_path(name)).value();
    EXPECT_TRUE(map.for_each([&](std::uint32_t, const backend_use& use) { open += use.open; }));
    return open;
  }

  Map<std::uint32_t, ct_config> config_;
  ct_config usual_{};
};

TEST_F(Contention, NoPairRotsByHalves) {
  serve_all(both);
  set_timeouts(2);
  int turn = 0;
  on_both_processors(kPackets, [&] {
    sweep();
    end_some(7);
    if (++turn % 8 == 0) serve_all([](const FamilyCase&) { return std::vector<Backend>(); });
    if (turn % 8 == 2) serve_all(both);
  });
  EXPECT_GT(turn, 10);

  // With connections that stay: whole pairs only.
  serve_all(both);
  set_timeouts(1000 * hz());
  on_both_processors(kPackets / 10, [] { std::this_thread::yield(); });
  sweep();
  sweep();
  expect_whole<ct_slot_v4>("ct4_slots", "ct4");
  expect_whole<ct_slot_v6>("ct6_slots", "ct6");

  // And none of them is left behind.
  EXPECT_TRUE(testkit::eventually([&] {
    end_some(1);
    sweep();
    const auto v4 = walk<ct_slot_v4>("ct4_slots").lives;
    const auto v6 = walk<ct_slot_v6>("ct6_slots").lives;
    return v4.size() == 1 && v6.size() == 1 && v4.contains(CT_FREE) && v6.contains(CT_FREE);
  }));
  expect_empty<ct_slot_v4>("ct4_slots", "ct4", 0);
  expect_empty<ct_slot_v6>("ct6_slots", "ct6", CT_SHARDS);
  EXPECT_EQ(open_connections("use4"), 0U);
  EXPECT_EQ(open_connections("use6"), 0U);
}

}  // namespace
}  // namespace fairlead::datapath
