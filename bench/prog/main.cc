// SPDX-License-Identifier: Apache-2.0
// scripts/bench prog: what each BPF program costs a packet, and what it cost the verifier. Method: BPF_PROG_RUN of a
// program that writes a fresh frame and calls the measured one by tail call, in turn with one that calls nothing; the
// difference of the pairs, as median with a 95 % interval.
#include <linux/pkt_cls.h>

#include "bench/lib/report.h"
#include "bench/prog/connections.h"
#include "bench/prog/driver.h"
#include "bench/prog/hooks.h"
#include "test/kit/data_path.h"
#include "test/kit/netns.h"

namespace fairlead::bench {
namespace {

constexpr std::size_t kRounds = 61;
constexpr std::uint32_t kPackets = 50'000;

// One program on one packet.
struct Case {
  std::string text;
  std::string program;
  testkit::Pod pod;  // on whose device
  testkit::Bytes frame;
  int action = 0;  // what the program has to answer
  std::optional<double> goal = {};
};

const std::string kPayload(64, 'x');

// One flow of frames without IP options on this pod's device.
Traffic traffic(const testkit::Bytes& frame, const testkit::Pod& pod) {
  const std::uint32_t ports = frame[12] == 0x08 ? 14 + 20 : 14 + 40;
  return {.frame = frame, .ifindex = pod.endpoint.ifindex, .low_at = ports, .high_at = ports + 2};
}

Result<> measure_case(const testkit::DataPath& path, Driver& driver, const Case& each, Report& report) {
  FL_TRY(driver.use(path.program(each.program), traffic(each.frame, each.pod)));
  FL_LET(const Estimate ns, driver.measure(kRounds, kPackets));
  if (driver.action() != each.action)
    return fail(Code::kSystem, "{}: answered {}, not {}", each.text, driver.action(), each.action);
  report.add({.text = each.text, .unit = "ns/packet", .us = ns, .goal = each.goal});
  return {};
}

Result<> measure(const Options&, Report& report) {
  FL_TRY(testkit::enter_node_namespace("bench-prog"));
  FL_LET(const auto path, testkit::DataPath::open());
  FL_LET(const testkit::Pod a, path->make_pod(1));
  FL_LET(const testkit::Pod b, path->make_pod(2));
  FL_LET(const auto driver, Driver::open());
  for (const Family family : {Family::kV4, Family::kV6}) {
    const char* name = family == Family::kV4 ? "IPv4" : "IPv6";
    const IpAddress far = IpAddress::parse(family == Family::kV4 ? "192.0.2.1" : "2001:db8::1").value();
    const testkit::Transport tcp = testkit::tcp(1, 2, testkit::tcp_flags::kAck, kPayload);
    const auto frame = [&](const testkit::Ethernet& ethernet, const IpAddress& from, const IpAddress& to) {
      return testkit::frame(ethernet, testkit::Ip{from, to}, tcp);
    };
    for (const Case& each : {
             Case{fmt::format("from_pod: {} to a pod of this node", name), "from_pod", a,
                  frame(a.to_host(), a.address(family), b.address(family)), TC_ACT_REDIRECT},
             Case{fmt::format("from_pod: {} to elsewhere", name), "from_pod", a,
                  frame(a.to_host(), a.address(family), far), TC_ACT_OK},
             Case{fmt::format("from_pod: {} from a foreign address, dropped", name), "from_pod", a,
                  frame(a.to_host(), b.address(family), far), TC_ACT_SHOT},
             Case{fmt::format("host_to_pod: {} from elsewhere", name), "host_to_pod", a,
                  frame(a.from_host(), far, a.address(family)), TC_ACT_OK},
         }) {
      FL_TRY(measure_case(*path, *driver, each, report));
    }
  }
  FL_LET(const auto facts, path->pods().facts());
  for (const auto& program : facts) report.add_instructions(program.name, program.verified_instructions);
  FL_TRY(measure_hooks(*path, report));
  return measure_connections(*driver, report);
}

}  // namespace
}  // namespace fairlead::bench

int main(int argc, char** argv) {
  return fairlead::bench::run(argc, argv, "prog", fairlead::bench::measure);
}
