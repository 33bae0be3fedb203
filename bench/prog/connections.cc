// SPDX-License-Identifier: Apache-2.0
#include "bench/prog/connections.h"

#include <bpf/bpf.h>
#include <linux/pkt_cls.h>

#include <fstream>

#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/conntrack.h"

namespace fairlead::bench {
namespace {

constexpr std::uint32_t kMany = 1U << 16;
constexpr std::uint32_t kMillion = 1U << 20;
constexpr std::uint32_t kPart = 1U << 15;  // as many as differ by the client's port alone
constexpr std::size_t kRounds = 61;
constexpr std::uint32_t kPackets = 1U << 16;
constexpr std::uint32_t kFirstPackets = 1U
                                        << 11;  // a round; all rounds together stay below the room for unanswered ones
constexpr std::uint16_t kClientPort = 20'000;
constexpr std::uint16_t kServicePort = 8'000;
constexpr std::uint16_t kBackendPort = 9'000;
constexpr std::uint16_t kServices = 64;
constexpr std::uint16_t kDirectPort = kBackendPort + kServices;  // and on: no Service's backend
const std::string kPayload(64, 'x');

// Both directions of the flows of one kind: translated by a Service, or from pod to pod as they are.
struct Flows {
  testkit::DataPath& path;
  Driver& driver;
  const testkit::Pod& client;
  const testkit::Pod& server;
  IpAddress named;                // the address that the client sends to
  std::uint16_t named_port = 0;   // the first of a range, as is
  std::uint16_t server_port = 0;  // what the server sees
  std::uint32_t flows = 1;
  bool scattered = true;

  Result<> use_forward(std::uint8_t flags) const {
    return use(client, {client.v4(), named}, flags,
               {.flows = flows,
                .scattered = scattered,
                .low_at = 34,
                .high_at = 36,
                .low_port = kClientPort,
                .high_port = named_port});
  }
  Result<> use_reply(std::uint8_t flags) const {
    return use(server, {server.v4(), client.v4()}, flags,
               {.flows = flows,
                .scattered = scattered,
                .low_at = 36,
                .high_at = 34,
                .low_port = kClientPort,
                .high_port = server_port});
  }
  // Every flow once through a handshake. In parts, since only so many may wait for an answer at a time.
  Result<> establish() const {
    using namespace testkit::tcp_flags;
    Flows part = *this;
    part.flows = std::min(flows, kPart);
    for (std::uint32_t done = 0; done < flows; done += part.flows, ++part.named_port, ++part.server_port) {
      FL_TRY(part.use_forward(kSyn));
      FL_TRY(part.run_all());
      FL_TRY(part.use_reply(kSyn | kAck));
      FL_TRY(part.run_all());
      FL_TRY(part.use_forward(kAck));
      FL_TRY(part.run_all());
    }
    return {};
  }

 private:
  Result<> use(const testkit::Pod& pod, const testkit::Ip& ip, std::uint8_t flags, Traffic traffic) const {
    traffic.frame = testkit::frame(pod.to_host(), ip, testkit::tcp(1, 1, flags, kPayload));
    traffic.ifindex = pod.endpoint.ifindex;
    return driver.use(path.program("from_pod"), traffic);
  }
  // Every flow once.
  Result<> run_all() const {
    FL_TRY(driver.run(flows));
    return delivered();
  }

 public:
  Result<> delivered() const {
    if (driver.action() == TC_ACT_REDIRECT) return {};
    return fail(Code::kSystem, "from_pod answered {} instead of a redirect; counted:{}", driver.action(), counted());
  }
  // What became of packets so far, and of connections.
  std::string counted() const {
    std::string text;
    if (const auto counters = path.pods().counters()) {
      for (const auto& each : *counters) text += fmt::format(" {} {}", each.packets, each.reason);
    }
    const auto table = datapath::Conntrack::open(path.pods());
    const auto usage = table ? (*table)->usage() : std::unexpected(table.error());
    if (usage) {
      for (const auto& [name, count] : usage->counters) text += fmt::format(" {} {}", count, name);
    }
    return text;
  }
};

Result<> add_line(const Flows& flows, Report& report, std::string text, std::optional<double> goal,
                  std::uint32_t packets = kPackets) {
  FL_LET(const Estimate ns, flows.driver.measure(kRounds, packets));
  FL_TRY(flows.delivered());
  report.add({.text = std::move(text), .unit = "ns/packet", .us = ns, .goal = goal});
  return {};
}

// What the maps of a family's connections take, as the kernel accounts for it.
Result<double> map_megabytes(const datapath::BpfRoot& root) {
  double bytes = 0;
  for (const char* name : {"ct4", "ct4_slots", "ct4_ring"}) {
    const UniqueFd fd(bpf_obj_get(root.map_path(name).c_str()));
    if (!fd) return fail_errno(errno, fmt::format("map {}: open", name));
    std::ifstream info(fmt::format("/proc/self/fdinfo/{}", fd.get()));
    for (std::string word; info >> word;) {
      if (word != "memlock:") continue;
      double each = 0;
      info >> each;
      bytes += each;
    }
  }
  return bytes / 1e6;
}

Result<> apply_services(datapath::BpfLoadBalancer& balancer, const IpAddress& address, const IpAddress& backend) {
  for (std::uint16_t i = 0; i < kServices; ++i) {
    datapath::ServiceEntry entry{.frontends = {{address, static_cast<std::uint16_t>(kServicePort + i), Protocol::kTcp}},
                                 .backends = {{backend, static_cast<std::uint16_t>(kBackendPort + i)}}};
    FL_TRY(balancer.apply(fmt::format("bench:{}", i), entry));
  }
  return {};
}

}  // namespace

namespace {

const IpAddress kAddress = IpAddress::from_v4({10, 96, 0, 1});

// The memory of exactly a million connections.
Result<> measure_memory(Driver& driver, Report& report, bool translated) {
  FL_LET(const auto path,
         testkit::DataPath::open(translated ? "translated" : "untranslated",
                                 {.connections = kMillion, .translated = translated ? kMillion : 0, .services = {}}));
  FL_LET(const testkit::Pod client, path->make_pod(translated ? 11 : 21));
  FL_LET(const testkit::Pod server, path->make_pod(translated ? 12 : 22));
  FL_LET(const auto balancer, datapath::BpfLoadBalancer::open(path->sockets()));
  FL_TRY(apply_services(*balancer, kAddress, server.v4()));
  const Flows flows{*path,
                    driver,
                    client,
                    server,
                    translated ? kAddress : server.v4(),
                    translated ? kServicePort : kBackendPort,
                    kBackendPort,
                    kMillion};
  FL_TRY(flows.establish());
  FL_LET(const auto table, datapath::Conntrack::open(path->pods()));
  FL_LET(const auto usage, table->usage());
  if (usage.v4.used != kMillion || usage.v4.unreplied != 0) {
    return fail(Code::kSystem, "{} connections, {} of them unanswered, instead of {}; counted:{}", usage.v4.used,
                usage.v4.unreplied, kMillion, flows.counted());
  }
  FL_LET(const double megabytes, map_megabytes(path->root()));
  report.add({.text = fmt::format("maps of 1M IPv4 connections, {}", translated ? "all translated" : "untranslated"),
              .unit = "MB",
              .us = {megabytes, megabytes, megabytes},
              .goal = translated ? 240 : 160});
  return path->root().clear();
}

}  // namespace

Result<> measure_connections(Driver& driver, Report& report) {
  using namespace testkit::tcp_flags;
  for (const bool translated : {false, true}) FL_TRY(measure_memory(driver, report, translated));
  FL_LET(const auto path, testkit::DataPath::open("connections", {.connections = kMillion + kMillion / 2,
                                                                  .translated = kMillion + kMillion / 2,
                                                                  .services = {}}));
  FL_LET(const testkit::Pod client, path->make_pod(31));
  FL_LET(const testkit::Pod server, path->make_pod(32));
  FL_LET(const auto balancer, datapath::BpfLoadBalancer::open(path->sockets()));
  FL_TRY(apply_services(*balancer, kAddress, server.v4()));

  Flows direct{*path, driver, client, server, server.v4(), kDirectPort, kDirectPort};
  FL_TRY(direct.establish());
  FL_TRY(direct.use_forward(kAck));
  FL_TRY(add_line(direct, report, "pod to pod, established, 1 flow", 130));
  direct.flows = kMany;
  FL_TRY(direct.establish());
  FL_TRY(direct.use_forward(kAck));
  FL_TRY(add_line(direct, report, "pod to pod, established, 64k flows at random", 350));

  Flows flows{*path, driver, client, server, kAddress, kServicePort + 1, kBackendPort + 1};
  FL_TRY(flows.establish());
  FL_TRY(flows.use_forward(kAck));
  FL_TRY(add_line(flows, report, "ClusterIP, established, 1 flow", 150));
  FL_TRY(flows.use_reply(kAck));
  FL_TRY(add_line(flows, report, "ClusterIP, replies, 1 flow", 150));

  Flows first = flows;
  first.flows = kMillion / 4;  // more than there are packets: each is the first of its flow
  first.named_port = kServicePort + 48;
  FL_TRY(first.use_forward(kSyn));
  FL_TRY(add_line(first, report, "ClusterIP, first packet", 800, kFirstPackets));

  flows.flows = kMany;
  FL_TRY(flows.establish());
  FL_TRY(flows.use_forward(kAck));
  FL_TRY(add_line(flows, report, "ClusterIP, established, 64k flows at random", 450));
  FL_TRY(flows.use_reply(kAck));
  FL_TRY(add_line(flows, report, "ClusterIP, replies, 64k flows at random", 450));

  flows.flows = kMillion;
  FL_TRY(flows.establish());
  FL_TRY(flows.use_forward(kAck));
  FL_TRY(add_line(flows, report, "ClusterIP, established, 1M flows at random (cold)", 500));
  flows.flows = 1;
  FL_TRY(flows.use_forward(kAck));
  FL_TRY(add_line(flows, report, "ClusterIP, established, 1 flow beside 1M connections", 150));
  first.named_port = kServicePort + 56;
  FL_TRY(first.use_forward(kSyn));
  FL_TRY(add_line(first, report, "ClusterIP, first packet, beside 1M connections", 1300, kFirstPackets));
  return {};
}

}  // namespace fairlead::bench
