// SPDX-License-Identifier: Apache-2.0
#include "test/bpf/packet_path_fixture.h"

#include "agent/datapath/map.h"

namespace fairlead::datapath {
namespace {

template <class Slot>
Map<std::uint32_t, Slot> slots(const testkit::DataPath& path, const char* name) {
  return Map<std::uint32_t, Slot>::open(path.root().map_path(name)).value();
}

// Calls `visit` with each live slot's head; true: it was changed, and is written.
template <class Slot, class Visit>
void each_connection(Map<std::uint32_t, Slot> map, Visit visit) {
  std::vector<std::pair<std::uint32_t, Slot>> live;
  ASSERT_TRUE(map.for_each([&](std::uint32_t index, const Slot& slot) {
    const std::uint32_t life = slot.head.tag & CT_LIFE_MASK;
    if (life == CT_NEW || life == CT_ANSWERED) live.emplace_back(index, slot);
  }));
  for (auto& [index, slot] : live) {
    if (visit(slot.head)) {
      EXPECT_TRUE(map.update(index, slot));
    }
  }
}

template <class Visit>
void each_connection(const testkit::DataPath& path, Family family, Visit visit) {
  if (family == Family::kV4) {
    each_connection(slots<ct_slot_v4>(path, "ct4_slots"), visit);
  } else {
    each_connection(slots<ct_slot_v6>(path, "ct6_slots"), visit);
  }
}

}  // namespace

IpAddress ip(const std::string& text) {
  return IpAddress::parse(text).value();
}

void PacketPath::SetUpTestSuite() {
  ASSERT_TRUE(testkit::enter_node_namespace("packet-path"));
  auto path = testkit::DataPath::open("fairlead", {.connections = 1024, .translated = 1024});  // quick to read
  ASSERT_TRUE(path) << path.error().message();
  path_ = std::move(*path);
  auto balancer = BpfLoadBalancer::open(path_->sockets());
  ASSERT_TRUE(balancer) << balancer.error().message();
  balancer_ = std::move(*balancer);
  a_ = path_->make_pod(1).value();
  b_ = path_->make_pod(2).value();
}

void PacketPath::TearDownTestSuite() {
  balancer_.reset();
  path_.reset();
}

void PacketPath::SetUp() {
  for (const std::string& name : served_) ASSERT_TRUE(balancer_->remove(name));
  served_.clear();
  for (const FamilyCase& each : families()) age(each.family, 200'000);
  sweep();
  for (const FamilyCase& each : families()) ASSERT_TRUE(connections(each.family).empty());
}

const std::vector<FamilyCase>& PacketPath::families() {
  static const std::vector<FamilyCase> all{
      {Family::kV4, ip("10.96.0.10"), ip("192.0.2.7"), 20},
      {Family::kV6, ip("fd00:96::10"), ip("2001:db8::7"), 40},
  };
  return all;
}

void PacketPath::serve(const IpAddress& address, std::uint16_t port, Protocol protocol,
                       const std::vector<Backend>& backends) {
  const std::string name = fmt::format("{}:{}/{}", address, port, static_cast<int>(protocol));
  ServiceEntry entry;
  entry.frontends = {{address, port, protocol}};
  entry.backends = backends;
  const auto applied = balancer_->apply(name, entry);
  ASSERT_TRUE(applied) << applied.error().message();
  served_.push_back(name);
}

Verdict PacketPath::from_pod(const Pod& pod, const Bytes& packet) {
  return path_->run("from_pod", pod, packet).value();
}

Verdict PacketPath::to_pod(const Pod& pod, const Bytes& packet) {
  return path_->run("host_to_pod", pod, packet).value();
}

Bytes PacketPath::sent(const Pod& pod, const IpAddress& to, const Transport& transport) {
  return frame(pod.to_host(), Ip{pod.address(to.family()), to, 64}, transport);
}

Bytes PacketPath::received(const Pod& receiver, const IpAddress& from, const Transport& transport) {
  return frame(receiver.from_host(), Ip{from, receiver.address(from.family()), 63}, transport);
}

Bytes PacketPath::for_stack(const Pod& pod, const IpAddress& from, const IpAddress& to, const Transport& transport) {
  return frame(pod.to_host(), Ip{from, to, 64}, transport);
}

Bytes PacketPath::from_stack(const Pod& pod, const IpAddress& from, const IpAddress& to, const Transport& transport) {
  return frame(pod.from_host(), Ip{from, to, 64}, transport);
}

std::uint64_t PacketPath::count(const std::string& reason) {
  const auto counters = path_->pods().counters().value();
  for (const VerdictCount& counter : counters) {
    if (counter.reason == reason) return counter.packets;
  }
  ADD_FAILURE() << "no counter " << reason;
  return 0;
}

void PacketPath::expect_drop(const Verdict& verdict, const std::string& reason, std::uint64_t before) {
  EXPECT_EQ(verdict.action, TC_ACT_SHOT) << reason;
  EXPECT_EQ(count(reason), before + 1) << reason;
}

std::vector<ct_head> PacketPath::connections(Family family, const testkit::DataPath& path) {
  std::vector<ct_head> all;
  each_connection(path, family, [&](const ct_head& head) {
    all.push_back(head);
    return false;
  });
  return all;
}

std::multiset<std::uint64_t> PacketPath::index_entries(const BpfRoot& root, const std::string& map) {
  std::multiset<std::uint64_t> entries;
  const auto index = Map<std::uint32_t, ct_bucket>::open(root.map_path(map)).value();
  EXPECT_TRUE(index.for_each([&](std::uint32_t, const ct_bucket& bucket) {
    std::ranges::copy_if(bucket.entries, std::inserter(entries, entries.end()), [](auto entry) { return entry != 0; });
  }));
  return entries;
}

std::uint32_t PacketPath::hz() {
  return Map<std::uint32_t, ct_config>::open(path_->root().map_path("ct_config")).value().lookup(0).value()->hz;
}

void PacketPath::age(Family family, std::uint32_t seconds) {
  each_connection(*path_, family, [&](ct_head& head) {
    head.deadline -= seconds * hz();
    return true;
  });
}

void PacketPath::condemn(Family family) {
  each_connection(*path_, family, [&](ct_head& head) {
    head.tag = (head.tag & ~CT_LIFE_MASK) | CT_CONDEMNED;
    return true;
  });
}

std::uint32_t PacketPath::sweep() {
  return static_cast<std::uint32_t>(path_->run("ct_sweep", a_, Bytes(64, 0)).value().action);
}

}  // namespace fairlead::datapath
