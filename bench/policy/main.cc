// SPDX-License-Identifier: Apache-2.0
// scripts/bench policy: what isolation adds to from_pod, between pods of one node and to elsewhere. Method:
// BPF_PROG_RUN as in bench/prog, the same packets with and without rules in turn; the difference of the pairs, as
// median with a 95 % interval. The maps hold 16,000 addresses, 10,000 CIDRs and 1,000 rule sets of 100 peers each
// meanwhile.
#include <linux/pkt_cls.h>

#include "agent/datapath/bpf_policy_maps.h"
#include "bench/lib/report.h"
#include "bench/policy/control.h"
#include "bench/prog/driver.h"
#include "test/kit/data_path.h"
#include "test/kit/netns.h"

namespace fairlead::bench {
namespace {

constexpr std::size_t kRounds = 61;
constexpr std::uint32_t kPackets = 1U << 16;
constexpr std::uint32_t kFirstPackets = 1U << 11;  // a run; all runs of a case stay below the room for unanswered ones
constexpr std::uint32_t kConnections = 5U << 18;

constexpr std::uint32_t kAddresses = 16'000;
constexpr std::uint32_t kCidrs = 10'000;
constexpr datapath::RuleSetId kRuleSets = 1'000;
constexpr datapath::Identity kPeersEach = 100;
constexpr datapath::RuleSetId kRules = 500;  // the one that the pods have …
constexpr datapath::Identity kPeer = 7;      // … with this peer
constexpr datapath::Identity kCidr = 8;      // … or this one, of a CIDR
const std::string kPayload(64, 'x');

Result<> fill(datapath::PolicyMaps& maps) {
  for (std::uint32_t i = 0; i < kAddresses; ++i) {
    FL_LET(const auto v4, IpAddress::parse(fmt::format("10.2.{}.{}", i / 200, 1 + i % 200)));
    FL_LET(const auto v6, IpAddress::parse(fmt::format("fd00:10:2::{:x}", i)));
    FL_TRY(maps.set_identity(v4, 1'000 + i));
    FL_TRY(maps.set_identity(v6, 1'000 + i));
  }
  for (std::uint32_t i = 0; i < kCidrs; ++i) {
    FL_LET(const auto v4, Cidr::parse(fmt::format("172.{}.{}.0/24", 16 + i / 256, i % 256)));
    FL_LET(const auto v6, Cidr::parse(fmt::format("2001:db8:{:x}::/48", i)));
    FL_TRY(maps.set_identity(v4, kCidr));
    FL_TRY(maps.set_identity(v6, kCidr));
  }
  for (datapath::RuleSetId id = 1; id <= kRuleSets; ++id) {
    for (datapath::Identity i = 0; i < kPeersEach; ++i) {
      FL_TRY(maps.allow(id, 1'000 + (id * kPeersEach + i) % kAddresses, {{6, 80, 80}, {6, 443, 443}}));
    }
    FL_TRY(maps.put_rules(id, {{6, 22, 22}}));
  }
  for (const datapath::Identity peer : {kPeer, kCidr}) {
    FL_TRY(maps.allow(kRules, peer, {{6, 80, 80}, {6, 1'024, 65'535}}));
  }
  return {};
}

struct Case {
  std::string text;
  Family family = Family::kV4;
  bool egress = false;   // of the client
  bool ingress = false;  // of the server
  bool established = false;
  bool elsewhere = false;  // beyond the node, in one of the CIDRs
  double goal = 0;
};

// A data path of its own, since connections of another case would be in the way of its own.
class Bed {
 public:
  static Result<std::unique_ptr<Bed>> make(std::uint8_t number, const Case& each) {
    auto bed = std::make_unique<Bed>();
    FL_LET(bed->path_, testkit::DataPath::open(fmt::format("policy{}", number),
                                               {.connections = kConnections, .translated = 0, .services = {}}));
    FL_LET(bed->client_, bed->path_->make_pod(static_cast<std::uint8_t>(2 * number + 1)));
    FL_LET(bed->server_, bed->path_->make_pod(static_cast<std::uint8_t>(2 * number + 2)));
    FL_LET(const auto maps, datapath::BpfPolicyMaps::open(bed->path_->pods()));
    FL_TRY(fill(*maps));
    for (const testkit::Pod* pod : {&bed->client_, &bed->server_}) {
      for (const IpAddress& address : pod->endpoint.addresses) FL_TRY(maps->set_identity(address, kPeer));
    }
    FL_LET(bed->generation_, bed->path_->pods().new_generation());
    bed->case_ = each;
    return bed;
  }

  // The same generation each time: what was judged once stays so.
  Result<> isolate(bool on) {
    testkit::Pod client = client_, server = server_;
    if (on && case_.egress) client.endpoint.egress = {kRules, generation_};
    if (on && case_.ingress) server.endpoint.ingress = {kRules, generation_};
    FL_TRY(path_->pods().upsert(client.endpoint));
    return path_->pods().upsert(server.endpoint);
  }

  Result<> use(Driver& driver, bool reply, std::uint8_t flags, std::uint32_t flows) const {
    const bool v4 = case_.family == Family::kV4;
    const IpAddress far = IpAddress::parse(v4 ? "172.20.30.40" : "2001:db8:123::40").value();
    const testkit::Pod& from = reply ? server_ : client_;
    const IpAddress to = case_.elsewhere ? far : (reply ? client_ : server_).address(case_.family);
    const std::uint32_t ports = v4 ? 34 : 54;
    return driver.use(path_->program("from_pod"),
                      {.frame = testkit::frame(from.to_host(), testkit::Ip{from.address(case_.family), to},
                                               testkit::tcp(1, 1, flags, kPayload)),
                       .ifindex = from.endpoint.ifindex,
                       .flows = flows,
                       .low_at = reply ? ports + 2 : ports,
                       .high_at = reply ? ports : ports + 2});
  }

  Result<> measure(Driver& driver, Report& report) {
    using namespace testkit::tcp_flags;
    const int expected = case_.elsewhere ? TC_ACT_OK : TC_ACT_REDIRECT;
    if (case_.established) {
      FL_TRY(isolate(true));
      for (const auto& [reply, flags] : {std::pair{false, kSyn}, {true, static_cast<std::uint8_t>(kSyn | kAck)}}) {
        FL_TRY(use(driver, reply, flags, 1));
        FL_TRY(driver.run(1));
      }
      FL_TRY(use(driver, false, kAck, 1));
    } else {
      FL_TRY(use(driver, false, kSyn, kConnections / 4));
    }
    Result<> failed;
    const auto run = [&](bool on) {
      if (auto isolated = isolate(on); !isolated) failed = std::move(isolated);
      const auto ns = driver.run(case_.established ? kPackets : kFirstPackets);
      if (!ns) failed = std::unexpected(ns.error());
      if (failed && driver.action() != expected) {
        failed = fail(Code::kSystem, "{}: from_pod answered {}, not {}", case_.text, driver.action(), expected);
      }
      return ns.value_or(0);
    };
    const Estimate more = compare(kRounds, [&] { return run(true); }, [&] { return run(false); });
    FL_TRY(failed);
    report.add({.text = case_.text, .unit = "ns/packet", .us = more, .goal = case_.goal});
    return path_->root().clear();
  }

 private:
  std::unique_ptr<testkit::DataPath> path_;
  testkit::Pod client_, server_;
  std::uint32_t generation_ = 0;
  Case case_;
};

Result<> measure(const Options&, Report& report) {
  FL_TRY(testkit::enter_node_namespace("bench-policy"));
  FL_LET(const auto driver, Driver::open());
  std::uint8_t number = 0;
  for (const Case& each : {
           // No hash lookup more: one would take 30 ns.
           Case{.text = "established, both pods isolated: more than with no policy",
                .egress = true,
                .ingress = true,
                .established = true,
                .goal = 10},
           Case{.text = "established, both pods isolated, IPv6",
                .family = Family::kV6,
                .egress = true,
                .ingress = true,
                .established = true,
                .goal = 10},
           Case{.text = "first packet, egress isolated", .egress = true, .goal = 60},
           Case{.text = "first packet, ingress isolated", .ingress = true, .goal = 60},
           Case{.text = "first packet, both isolated", .egress = true, .ingress = true, .goal = 120},
           Case{.text = "first packet, both isolated, IPv6",
                .family = Family::kV6,
                .egress = true,
                .ingress = true,
                .goal = 120},
           Case{.text = "first packet, egress isolated, to one of 10,000 CIDRs",
                .egress = true,
                .elsewhere = true,
                .goal = 150},
           Case{.text = "first packet, egress isolated, to one of 10,000 CIDRs, IPv6",
                .family = Family::kV6,
                .egress = true,
                .elsewhere = true,
                .goal = 150},
       }) {
    FL_LET(const auto bed, Bed::make(number++, each));
    FL_TRY(bed->measure(*driver, report));
  }
  FL_LET(const auto path,
         testkit::DataPath::open("control", {.connections = kConnections, .translated = 0, .services = {}}));
  FL_LET(const auto maps, datapath::BpfPolicyMaps::open(path->pods()));
  FL_TRY(measure_control(*maps, report));
  return path->root().clear();
}

}  // namespace
}  // namespace fairlead::bench

int main(int argc, char** argv) {
  return fairlead::bench::run(argc, argv, "policy", fairlead::bench::measure);
}
