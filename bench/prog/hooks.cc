// SPDX-License-Identifier: Apache-2.0
#include "bench/prog/hooks.h"

#include <bpf/bpf.h>
#include <sys/socket.h>

#include <cerrno>
#include <map>

#include "agent/base/socket_name.h"
#include "agent/datapath/abi.h"
#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/bpf_socket_clients.h"
#include "agent/datapath/sock_programs.h"
#include "test/kit/cgroup.h"

namespace fairlead::bench {
namespace {

constexpr int kBatches = 41;
constexpr int kSockets = 200;

struct RunTime {
  std::uint64_t ns = 0;
  std::uint64_t runs = 0;
};

Result<RunTime> run_time(std::uint32_t program_id) {
  const UniqueFd fd(bpf_prog_get_fd_by_id(program_id));
  bpf_prog_info info{};
  std::uint32_t size = sizeof(info);
  if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0) return fail_errno(errno, "program: info");
  return RunTime{info.run_time_ns, info.run_cnt};
}

// A service of `family` and where it leads: nobody listens there, UDP does not mind.
datapath::ServiceEntry service(Family family) {
  const auto address = [family](const char* v4, const char* v6, int last) {
    return IpAddress::parse(fmt::format("{}{}", family == Family::kV4 ? v4 : v6, last)).value();
  };
  datapath::ServiceEntry entry{.frontends = {{address("10.96.0.", "fd00:96::", 1), 53, Protocol::kUdp}},
                               .backends = {}};
  for (int i = 0; i < 10; ++i) entry.backends.push_back({address("127.0.0.", "::", 1), std::uint16_t(2000 + i)});
  return entry;
}

// Everything that a client does with a socket, with every hook of its family.
Result<> use_sockets(const datapath::Frontend& to) {
  const SocketName service = socket_name(to.address, to.port);
  for (int i = 0; i < kSockets; ++i) {
    const UniqueFd connected(socket(service.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const UniqueFd unconnected(socket(service.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
    SocketName peer;
    if (connect(connected.get(), service.get(), service.size) != 0 ||
        getpeername(connected.get(), peer.get(), &peer.size) != 0 ||
        sendto(unconnected.get(), "x", 1, 0, service.get(), service.size) != 1)
      return fail_errno(errno, fmt::format("UDP socket to {}", to.address));
  }
  return {};
}

}  // namespace

Result<> measure_hooks(testkit::DataPath& path, Report& report) {
  datapath::SockPrograms* const programs = &path.sockets();
  FL_LET(const std::string cgroup_root, datapath::find_cgroup2_root());
  FL_LET(const auto cgroup, testkit::TestCgroup::make(cgroup_root, "bench-prog"));
  FL_TRY(programs->attach(cgroup.path()));
  FL_TRY(cgroup.enter());
  FL_LET(const auto clients, datapath::BpfSocketClients::open(*programs));
  FL_LET(const auto balancer, datapath::BpfLoadBalancer::open(*programs));
  std::uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  const UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  getsockopt(any.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size);
  FL_TRY(clients->admit(cookie, {IpAddress::from_v4({10, 1, 0, 9})}));
  const auto v4 = service(Family::kV4);
  const auto v6 = service(Family::kV6);
  FL_TRY(balancer->apply("v4", v4));
  FL_TRY(balancer->apply("v6", v6));

  const UniqueFd statistics(bpf_enable_stats(BPF_STATS_RUN_TIME));
  if (!statistics) return fail_errno(errno, "enable run-time statistics");
  FL_LET(const auto facts, programs->facts());
  std::map<std::string, std::vector<double>> samples;
  for (int batch = 0; batch < kBatches; ++batch) {
    std::map<std::string, RunTime> before;
    for (const auto& program : facts) {
      FL_LET(before[program.name], run_time(program.id));
    }
    FL_TRY(use_sockets(v4.frontends[0]));
    FL_TRY(use_sockets(v6.frontends[0]));
    for (const auto& program : facts) {
      FL_LET(const RunTime after, run_time(program.id));
      const std::uint64_t runs = after.runs - before[program.name].runs;
      if (runs != 0)
        samples[program.name].push_back(double(after.ns - before[program.name].ns) / static_cast<double>(runs));
    }
  }
  for (auto& [name, values] : samples) {
    report.add({.text = name + ": a UDP socket on a ClusterIP (with the kernel's clock)",
                .unit = "ns/call",
                .us = estimate(std::move(values))});
  }
  for (const auto& program : facts) report.add_instructions(program.name, program.verified_instructions);
  return {};
}

}  // namespace fairlead::bench
