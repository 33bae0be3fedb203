// SPDX-License-Identifier: Apache-2.0
// VXLAN devices and their peers, and what of a device can be changed later.
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "agent/netlink/message.h"
#include "agent/netlink/routes.h"
#include "agent/netlink/socket.h"

namespace fairlead::netlink {
namespace {

constexpr std::uint8_t kTtl = 64;

void put_u8(Message& message, int type, std::uint8_t value) {
  message.bytes(type, &value, sizeof(value));
}

ifinfomsg header_of(std::uint32_t ifindex) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = static_cast<int>(ifindex);
  return header;
}

ndmsg peer_header(std::uint32_t ifindex) {
  ndmsg header{};
  header.ndm_family = AF_BRIDGE;
  header.ndm_ifindex = static_cast<int>(ifindex);
  header.ndm_state = NUD_PERMANENT | NUD_NOARP;
  header.ndm_flags = NTF_SELF;
  return header;
}

}  // namespace

Result<std::uint32_t> Socket::create_vxlan(const VxlanSpec& spec) {
  Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, header_of(0));
  message.text(IFLA_IFNAME, spec.name).bytes(IFLA_ADDRESS, spec.mac.data(), spec.mac.size()).u32(IFLA_MTU, spec.mtu);
  message.begin(IFLA_LINKINFO).text(IFLA_INFO_KIND, "vxlan").begin(IFLA_INFO_DATA);
  put_u8(message, IFLA_VXLAN_LEARNING, 0);
  put_u8(message, IFLA_VXLAN_TTL, kTtl);
  put_u8(message, IFLA_VXLAN_UDP_CSUM, 0);
  message.u32(IFLA_VXLAN_ID, spec.vni);
  if (spec.local) message.address(spec.local->is_v4() ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, *spec.local);
  const std::uint16_t port = htons(spec.port);
  message.bytes(IFLA_VXLAN_PORT, &port, sizeof(port));
  message.end().end();
  FL_TRY(kernel_.exchange(
      message, fmt::format("create VXLAN device {} on UDP port {} with VNI {}", spec.name, spec.port, spec.vni)));
  FL_LET(const Link link, find_link(spec.name));
  // Nobody is asked by multicast here, and every neighbour is given: a link-local address would only make noise. Where
  // IPv6 is off there is nothing to set.
  Message quiet(RTM_SETLINK, 0, header_of(link.ifindex));
  quiet.begin(IFLA_AF_SPEC).begin(AF_INET6);
  put_u8(quiet, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
  quiet.end().end();
  (void)kernel_.exchange(quiet, fmt::format("{}: no link-local address", spec.name));
  return link.ifindex;
}

Result<> Socket::set_peer(std::uint32_t ifindex, const Neighbour& peer) {
  Message message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, peer_header(ifindex));
  message.bytes(NDA_LLADDR, peer.mac.data(), peer.mac.size()).address(NDA_DST, peer.address);
  return kernel_.exchange(message, fmt::format("device #{}: set peer {}", ifindex, peer.address));
}

Result<std::vector<Neighbour>> Socket::peers(std::uint32_t ifindex) {
  // The kernel's strict check of an FDB's dump takes the device from the header alone.
  ndmsg header{};
  header.ndm_family = AF_BRIDGE;
  header.ndm_ifindex = static_cast<int>(ifindex);
  Message message(RTM_GETNEIGH, NLM_F_DUMP, header);
  std::vector<Neighbour> all;
  FL_TRY(kernel_.exchange(message, fmt::format("device #{}: list peers", ifindex), [&](const nlmsghdr* entry) {
    const auto* info = static_cast<const ndmsg*>(nlmsg_data(entry));
    const auto peer = read_neighbour(entry);
    if (peer && static_cast<std::uint32_t>(info->ndm_ifindex) == ifindex) all.push_back(*peer);
  }));
  return all;
}

Result<> Socket::erase_peer(std::uint32_t ifindex, const Neighbour& peer) {
  Message message(RTM_DELNEIGH, 0, peer_header(ifindex));
  message.bytes(NDA_LLADDR, peer.mac.data(), peer.mac.size()).address(NDA_DST, peer.address);
  auto erased = kernel_.exchange(message, fmt::format("device #{}: erase peer {}", ifindex, peer.address));
  const bool gone = !erased && (erased.error().sys == ENOENT || erased.error().sys == ENODEV);
  return gone ? Result<>() : erased;
}

Result<> Socket::set_mtu(std::uint32_t ifindex, std::uint32_t mtu) {
  Message message(RTM_SETLINK, 0, header_of(ifindex));
  message.u32(IFLA_MTU, mtu);
  return kernel_.exchange(message, fmt::format("device #{}: set MTU {}", ifindex, mtu));
}

Result<> Socket::set_mac(std::uint32_t ifindex, const Mac& mac) {
  Message message(RTM_SETLINK, 0, header_of(ifindex));
  message.bytes(IFLA_ADDRESS, mac.data(), mac.size());
  return kernel_.exchange(message, fmt::format("device #{}: set address {}", ifindex, to_string(mac)));
}

}  // namespace fairlead::netlink
