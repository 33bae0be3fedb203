// SPDX-License-Identifier: Apache-2.0
#include "test/kit/data_path.h"

#include <bpf/bpf.h>
#include <fcntl.h>

#include "agent/netlink/socket.h"
#include "test/kit/netns.h"

namespace fairlead::testkit {

Result<std::unique_ptr<DataPath>> DataPath::open(const std::string& name, const datapath::PodCapacities& capacities) {
  FL_LET(datapath::BpfRoot root, datapath::BpfRoot::open(bpffs() + "/" + name));
  std::unique_ptr<DataPath> path(new DataPath(std::move(root)));
  FL_LET(path->sockets_, datapath::SockPrograms::load(path->root_, {}));
  FL_LET(path->pods_, datapath::BpfPodPrograms::load(path->root_, capacities));
  FL_LET(const auto facts, path->pods_->facts());
  FL_TRY(path->add_programs(facts));
  return path;
}

Result<> DataPath::add_programs(const std::vector<datapath::ProgramFacts>& facts) {
  for (const auto& program : facts) {
    UniqueFd fd(bpf_prog_get_fd_by_id(program.id));
    if (!fd) return fail_errno(errno, fmt::format("program {}: open", program.name));
    programs_.insert_or_assign(program.name, std::move(fd));
  }
  return {};
}

Result<Pod> DataPath::make_pod(std::uint8_t number) {
  Pod pod;
  pod.endpoint.mac = {0x0a, 0, 0, 0, 1, number};
  pod.endpoint.host_mac = {0x0a, 0, 0, 0, 2, number};
  pod.endpoint.netns_cookie = number;
  FL_LET(const IpAddress v4, IpAddress::parse(fmt::format("10.1.0.{}", number)));
  FL_LET(const IpAddress v6, IpAddress::parse(fmt::format("fd00:10:1::{:x}", number)));
  pod.endpoint.addresses = {v4, v6};
  FL_LET(auto socket, netlink::Socket::open());
  const UniqueFd here(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  FL_LET(const netlink::VethEnds ends, socket.create_veth({.name = fmt::format("host{}", number),
                                                           .mac = pod.endpoint.host_mac,
                                                           .peer_name = fmt::format("pod{}", number),
                                                           .peer_mac = pod.endpoint.mac,
                                                           .peer_netns = here.get(),
                                                           .mtu = 1450}));
  pod.endpoint.ifindex = ends.ifindex;
  FL_TRY(pods_->attach(pod.endpoint.ifindex));
  FL_TRY(pods_->upsert(pod.endpoint));
  return pod;
}

Result<Verdict> DataPath::run(const std::string& name, const Place& place, const Bytes& frame) const {
  Verdict verdict;
  verdict.packet.resize(frame.size() + 256);
  __sk_buff context{};
  context.ifindex = place.ifindex;
  context.mark = place.mark;
  context.ingress_ifindex = place.from;
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_out = verdict.packet.data(),
              .data_size_in = static_cast<__u32>(frame.size()),
              .data_size_out = static_cast<__u32>(verdict.packet.size()), .ctx_in = &context, .ctx_out = &context,
              .ctx_size_in = sizeof(context), .ctx_size_out = sizeof(context));
  const int status = bpf_prog_test_run_opts(program(name), &options);
  if (status != 0) return fail_errno(-status, fmt::format("program {}: run", name));
  verdict.packet.resize(options.data_size_out);
  verdict.action = static_cast<int>(options.retval);
  verdict.mark = context.mark;
  return verdict;
}

Result<std::uint32_t> DataPath::sweep() const {
  const Bytes frame(64);
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_size_in = static_cast<__u32>(frame.size()));
  const int status = bpf_prog_test_run_opts(program("ct_sweep"), &options);
  if (status != 0) return fail_errno(-status, "program ct_sweep: run");
  return options.retval;
}

}  // namespace fairlead::testkit
