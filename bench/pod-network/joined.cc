// SPDX-License-Identifier: Apache-2.0
#include "bench/pod-network/joined.h"

#include <bare.skel.h>
#include <bpf/libbpf.h>
#include <net/if.h>

#include <cerrno>

namespace fairlead::bench {
namespace {

using testkit::in_netns;
using testkit::PodNetns;

struct DestroyBare {
  void operator()(bare_bpf* skeleton) const { bare_bpf__destroy(skeleton); }
};

// MAC of end `i`, and of what stands at the other side of its device.
std::string mac(unsigned i) {
  return fmt::format("02:00:00:00:00:0{}", i);
}

Result<> attach(const bpf_program* program, unsigned ifindex) {
  bpf_tc_hook hook{};
  hook.sz = sizeof(hook);
  hook.ifindex = static_cast<int>(ifindex);
  hook.attach_point = BPF_TC_INGRESS;
  bpf_tc_opts options{};
  options.sz = sizeof(options);
  options.prog_fd = bpf_program__fd(program);
  if (const int error = bpf_tc_hook_create(&hook); error != 0) return fail_errno(-error, "clsact");
  if (const int error = bpf_tc_attach(&hook, &options); error != 0) return fail_errno(-error, "attach");
  return {};
}

}  // namespace

struct Joined::Programs {
  std::unique_ptr<bare_bpf, DestroyBare> skeleton;

  Result<> start() {
    skeleton.reset(bare_bpf__open());
    if (skeleton == nullptr) return fail_errno(errno, "open BPF object bare");
    skeleton->rodata->first = if_nametoindex("bare1");
    skeleton->rodata->second = if_nametoindex("bare2");
    if (bare_bpf__load(skeleton.get()) != 0) return fail_errno(errno, "load BPF object bare");
    FL_TRY(attach(skeleton->progs.join, skeleton->rodata->first));
    return attach(skeleton->progs.join, skeleton->rodata->second);
  }
};

Joined::Joined() = default;
Joined::Joined(Joined&&) noexcept = default;
Joined::~Joined() = default;

Result<Joined> Joined::by_redirect_peer(unsigned mtu) {
  Joined joined;
  joined.address_ = *IpAddress::parse("10.9.0.2");
  FL_LET(PodNetns node, PodNetns::make("bare"));
  joined.nodes_.push_back(std::move(node));
  for (unsigned i = 1; i <= 2; ++i) {
    FL_LET(PodNetns end, PodNetns::make(fmt::format("bare-{}", i)));
    // The other end is a neighbour by its own MAC, so that no program has a header to write.
    FL_TRY(in_netns(joined.nodes_[0],
                    fmt::format("ip link add bare{0} mtu {1} type veth peer name eth0 address {2} mtu {1} netns {3} && "
                                "ip link set bare{0} up",
                                i, mtu, mac(i), end.path())));
    FL_TRY(
        in_netns(end, fmt::format("ip link set lo up && ip link set eth0 up && ip address add 10.9.0.{}/24 dev eth0 && "
                                  "ip neigh add 10.9.0.{} lladdr {} dev eth0",
                                  i, 3 - i, mac(3 - i))));
    joined.ends_.push_back(std::move(end));
  }
  joined.programs_ = std::make_unique<Programs>();
  Result<> started;
  joined.nodes_[0].run([&] { started = joined.programs_->start(); });
  FL_TRY(started);
  return joined;
}

Result<Joined> Joined::by_kernel_vxlan(const testkit::NodesBed& bed, unsigned mtu) {
  Joined joined;
  joined.address_ = *IpAddress::parse("10.9.2.2");
  for (unsigned i = 1; i <= 2; ++i) {
    const unsigned other = 3 - i;
    FL_LET(PodNetns node, PodNetns::make(fmt::format("plain{}", i)));
    FL_LET(PodNetns end, PodNetns::make(fmt::format("plain{}-pod", i)));
    FL_TRY(in_netns(bed.lan(), fmt::format("ip link add plain{0} type veth peer name eth0 netns {1} && "
                                           "ip link set plain{0} master br0 && ip link set plain{0} up",
                                           i, node.path())));
    FL_TRY(in_netns(
        node, fmt::format(
                  "ip link set lo up && ip link set eth0 up && ip address add 192.0.2.5{0}/24 dev eth0 && "
                  "ip link add pod mtu {2} type veth peer name eth0 mtu {2} netns {3} && ip link set pod up && "
                  "ip address add 10.9.{0}.1/24 dev pod && sysctl -qw net.ipv4.ip_forward=1 && "
                  "ip link add vx address 02:00:00:00:01:0{0} mtu {2} type vxlan id 7 dstport 8472 local 192.0.2.5{0} "
                  "remote 192.0.2.5{1} nolearning && ip link set vx up && "
                  "ip route add 10.9.{1}.0/24 via 10.9.{1}.0 dev vx onlink && "
                  "ip neigh add 10.9.{1}.0 lladdr 02:00:00:00:01:0{1} dev vx",
                  i, other, mtu, end.path())));
    FL_TRY(in_netns(end,
                    fmt::format("ip link set lo up && ip link set eth0 up && ip address add 10.9.{0}.2/24 dev eth0 && "
                                "ip route add default via 10.9.{0}.1",
                                i)));
    joined.nodes_.push_back(std::move(node));
    joined.ends_.push_back(std::move(end));
  }
  return joined;
}

}  // namespace fairlead::bench
