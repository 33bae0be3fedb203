// SPDX-License-Identifier: Apache-2.0
#include "agent/network/pod_link.h"

#include <fcntl.h>
#include <algorithm>
#include <cerrno>

#include "agent/base/unique_fd.h"

namespace fairlead::network {
namespace {

Cidr everywhere(Family family) {
  return *Cidr::parse(family == Family::kV4 ? "0.0.0.0/0" : "::/0");
}

// Lets the stack pass on what comes in at the device: the pod's way out of the node. For IPv6 the kernel asks the
// node's own setting (net.ipv6.conf.all.forwarding), never the device's.
Result<> enable_forwarding(const std::string& device) {
  const std::string path = fmt::format("/proc/sys/net/ipv4/conf/{}/forwarding", device);
  const UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return fail_errno(errno, fmt::format("open {}", path));
  char value = '0';
  if (pread(fd.get(), &value, 1, 0) == 1 && value == '1') return {};
  if (pwrite(fd.get(), "1", 1, 0) != 1) return fail_errno(errno, fmt::format("write {}", path));
  return {};
}

}  // namespace

Result<netlink::VethEnds> make_pod_link(netlink::Socket& host, const netlink::Netns& pod, const Attachment& attachment,
                                        std::uint32_t mtu) {
  FL_LET(const netlink::VethEnds ends, host.create_veth({.name = device_name(attachment),
                                                         .mac = host_mac(attachment),
                                                         .peer_name = attachment.ifname,
                                                         .peer_mac = pod_mac(attachment),
                                                         .peer_netns = pod.fd.get(),
                                                         .mtu = mtu}));
  if (auto marked = host.set_alias(ends.ifindex, device_alias(attachment)); !marked) {
    (void)host.delete_link(ends.ifindex);
    return std::unexpected(std::move(marked).error());
  }
  return ends;
}

Result<> connect_pod_side(netlink::Netns& pod, std::uint32_t ifindex, const Attachment& attachment) {
  netlink::Socket& inside = pod.socket;
  FL_TRY(inside.set_up(netlink::kLoopback));
  for (const IpAddress& address : attachment.addresses) {
    FL_TRY(inside.add_address(ifindex, address));
    FL_TRY(inside.set_neighbour(ifindex, gateway(address.family()), host_mac(attachment)));
  }
  FL_TRY(inside.set_up(ifindex));
  for (const IpAddress& address : attachment.addresses) {
    FL_TRY(inside.set_route({.destination = everywhere(address.family()),
                             .ifindex = ifindex,
                             .gateway = gateway(address.family()),
                             .source = {}}));
  }
  return {};
}

Result<> connect_host_side(netlink::Socket& host, std::uint32_t ifindex, const Attachment& attachment,
                           const std::vector<IpAddress>& node_ips) {
  for (const IpAddress& address : attachment.addresses) {
    FL_TRY(host.set_neighbour(ifindex, address, pod_mac(attachment)));
  }
  FL_TRY(enable_forwarding(device_name(attachment)));
  FL_TRY(host.set_up(ifindex));
  for (const IpAddress& address : attachment.addresses) {
    const auto node = std::ranges::find(node_ips, address.family(), &IpAddress::family);
    FL_TRY(host.set_route({.destination = Cidr::host(address),
                           .ifindex = ifindex,
                           .gateway = {},
                           .source = node == node_ips.end() ? std::nullopt : std::optional(*node)}));
  }
  return {};
}

netlink::TokenBucket token_bucket(std::uint64_t rate, std::uint64_t burst) {
  constexpr std::uint64_t kWhole = 72U << 10;  // 64 KiB of data and the headers of its segments
  constexpr std::uint64_t kMost = 1U << 30;
  const std::uint64_t bytes = rate / 8;
  const std::uint64_t asked = burst == 0 ? bytes / 50 : std::min(burst / 8, bytes / 8);
  const std::uint64_t at_once = std::clamp(asked, kWhole, kMost);
  const std::uint64_t wait = std::clamp(bytes / 20, 2 * kWhole, kMost);  // 50 ms
  return {
      .rate = bytes, .burst = static_cast<std::uint32_t>(at_once), .limit = static_cast<std::uint32_t>(at_once + wait)};
}

Result<> limit_rates(netlink::Socket& host, netlink::Netns& pod, const netlink::VethEnds& ends,
                     const Attachment& attachment) {
  const Bandwidth& asked = attachment.asked.bandwidth;
  if (asked.ingress_rate != 0) {
    FL_TRY(netlink::set_token_bucket(host, ends.ifindex, token_bucket(asked.ingress_rate, asked.ingress_burst)));
  }
  if (asked.egress_rate == 0) return {};
  return netlink::set_token_bucket(pod.socket, ends.peer_ifindex, token_bucket(asked.egress_rate, asked.egress_burst));
}

Result<> restore_ingress_limit(netlink::Socket& host, std::uint32_t ifindex, const Attachment& attachment) {
  const Bandwidth& asked = attachment.asked.bandwidth;
  if (asked.ingress_rate == 0) return {};
  const netlink::TokenBucket wanted = token_bucket(asked.ingress_rate, asked.ingress_burst);
  FL_LET(const auto rate, netlink::token_bucket_rate(host, ifindex));
  return rate == wanted.rate ? Result<>() : netlink::set_token_bucket(host, ifindex, wanted);
}

Result<> verify_limits(netlink::Socket& host, netlink::Netns& pod, std::uint32_t ifindex,
                       const Attachment& attachment) {
  const Bandwidth& asked = attachment.asked.bandwidth;
  const auto verify = [](netlink::Socket& socket, std::uint32_t device, std::uint64_t rate,
                         std::string_view what) -> Result<> {
    FL_LET(const auto found, netlink::token_bucket_rate(socket, device));
    if (found == rate / 8) return {};
    return fail(Code::kConflict, "the limit of {} bits a second on what the pod {} is gone", rate, what);
  };
  if (asked.ingress_rate != 0) FL_TRY(verify(host, ifindex, asked.ingress_rate, "gets"));
  if (asked.egress_rate == 0) return {};
  FL_LET(const netlink::Link link, pod.socket.find_link(attachment.ifname));
  return verify(pod.socket, link.ifindex, asked.egress_rate, "sends");
}

Result<> verify_pod_side(netlink::Netns& pod, const Attachment& attachment) {
  FL_LET(const netlink::Link link, pod.socket.find_link(attachment.ifname));
  if (!link.up) return fail(Code::kNotFound, "{} in {} is down", attachment.ifname, attachment.netns);
  FL_LET(const std::vector<IpAddress> addresses, pod.socket.addresses(link.ifindex));
  FL_LET(const std::vector<Cidr> routes, pod.socket.routes(link.ifindex));
  for (const IpAddress& address : attachment.addresses) {
    if (std::ranges::count(addresses, address) == 0) {
      return fail(Code::kNotFound, "{} in {} has no address {}", attachment.ifname, attachment.netns, address);
    }
    if (std::ranges::count(routes, everywhere(address.family())) == 0) {
      return fail(Code::kNotFound, "{} in {} has no default route for {}", attachment.ifname, attachment.netns,
                  address);
    }
  }
  return {};
}

}  // namespace fairlead::network
