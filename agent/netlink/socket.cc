// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/socket.h"

#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/veth.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "agent/netlink/message.h"

namespace fairlead::netlink {
namespace {

void read_kind(nlattr* info, Link& link) {
  nlattr* attrs[IFLA_INFO_MAX + 1];
  if (nla_parse_nested(attrs, IFLA_INFO_MAX, info, nullptr) != 0 || attrs[IFLA_INFO_KIND] == nullptr) return;
  link.kind = nla_get_string(attrs[IFLA_INFO_KIND]);
  nlattr* data[IFLA_VXLAN_MAX + 1];
  if (link.kind != "vxlan" || attrs[IFLA_INFO_DATA] == nullptr ||
      nla_parse_nested(data, IFLA_VXLAN_MAX, attrs[IFLA_INFO_DATA], nullptr) != 0) {
    return;
  }
  if (data[IFLA_VXLAN_PORT] != nullptr) link.vxlan_port = ntohs(nla_get_u16(data[IFLA_VXLAN_PORT]));
  if (data[IFLA_VXLAN_ID] != nullptr) link.vxlan_vni = nla_get_u32(data[IFLA_VXLAN_ID]);
  for (const int local : {IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6}) {
    if (data[local] != nullptr) link.vxlan_local = read_address(data[local]);
  }
  link.vxlan_external =
      data[IFLA_VXLAN_COLLECT_METADATA] != nullptr && nla_get_u8(data[IFLA_VXLAN_COLLECT_METADATA]) != 0;
}

constexpr std::uint32_t kDoomed = 0xfa1e;  // a device group, of those that are about to be deleted
constexpr std::uint16_t kReplace = NLM_F_CREATE | NLM_F_REPLACE;

std::string device(std::uint32_t ifindex) {
  return fmt::format("device #{}", ifindex);
}

// One end of a veth, with one queue each way, as a veth has in any case: where no number is given the kernel makes one
// a processor, and waits for two grace periods while it takes all but the first out of use.
void put_veth_end(Message& message, const std::string& name, const Mac& mac, std::uint32_t mtu) {
  message.text(IFLA_IFNAME, name).bytes(IFLA_ADDRESS, mac.data(), mac.size()).u32(IFLA_MTU, mtu);
  message.u32(IFLA_NUM_TX_QUEUES, 1).u32(IFLA_NUM_RX_QUEUES, 1);
}

ifinfomsg link_header(std::uint32_t ifindex) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = static_cast<int>(ifindex);
  return header;
}

Link read_link(const nlmsghdr* header) {
  const auto* info = static_cast<const ifinfomsg*>(nlmsg_data(header));
  nlattr* attrs[IFLA_MAX + 1];
  Link link;
  link.ifindex = static_cast<std::uint32_t>(info->ifi_index);
  link.up = (info->ifi_flags & IFF_UP) != 0;
  if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof(*info), attrs, IFLA_MAX, nullptr) != 0) return link;
  if (attrs[IFLA_IFNAME] != nullptr) link.name = nla_get_string(attrs[IFLA_IFNAME]);
  if (attrs[IFLA_IFALIAS] != nullptr) link.alias = nla_get_string(attrs[IFLA_IFALIAS]);
  if (attrs[IFLA_GROUP] != nullptr) link.group = nla_get_u32(attrs[IFLA_GROUP]);
  if (attrs[IFLA_MTU] != nullptr) link.mtu = nla_get_u32(attrs[IFLA_MTU]);
  if (attrs[IFLA_ADDRESS] != nullptr && nla_len(attrs[IFLA_ADDRESS]) == 6) {
    std::memcpy(link.mac.data(), nla_data(attrs[IFLA_ADDRESS]), link.mac.size());
  }
  if (attrs[IFLA_LINKINFO] != nullptr) read_kind(attrs[IFLA_LINKINFO], link);
  if (link.kind == "veth" && attrs[IFLA_LINK] != nullptr) link.peer_ifindex = nla_get_u32(attrs[IFLA_LINK]);
  return link;
}

}  // namespace

Result<Socket> Socket::open() {
  FL_LET(Conversation kernel, Conversation::open(NETLINK_ROUTE));
  return Socket(std::move(kernel));
}

Result<VethEnds> Socket::create_veth(const VethSpec& spec) {
  Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(0));
  put_veth_end(message, spec.name, spec.mac, spec.mtu);
  message.begin(IFLA_LINKINFO).text(IFLA_INFO_KIND, "veth").begin(IFLA_INFO_DATA).begin(VETH_INFO_PEER);
  const ifinfomsg peer = link_header(0);
  message.append(&peer, sizeof(peer));
  put_veth_end(message, spec.peer_name, spec.peer_mac, spec.mtu);
  message.u32(IFLA_NET_NS_FD, static_cast<std::uint32_t>(spec.peer_netns));
  message.end().end().end();
  FL_TRY(kernel_.exchange(message, fmt::format("create veth {} with peer {}", spec.name, spec.peer_name)));
  FL_LET(const Link link, find_link(spec.name));
  return VethEnds{link.ifindex, link.peer_ifindex};
}

Result<> Socket::set_alias(std::uint32_t ifindex, const std::string& alias) {
  Message message(RTM_SETLINK, 0, link_header(ifindex));
  message.bytes(IFLA_IFALIAS, alias.data(), alias.size());
  return kernel_.exchange(message, fmt::format("{}: set alias {}", device(ifindex), alias));
}

Result<> Socket::set_up(std::uint32_t ifindex) {
  ifinfomsg header = link_header(ifindex);
  header.ifi_flags = IFF_UP;
  header.ifi_change = IFF_UP;
  Message message(RTM_SETLINK, 0, header);
  return kernel_.exchange(message, fmt::format("{}: set up", device(ifindex)));
}

Result<> Socket::delete_link(std::uint32_t ifindex) {
  Message message(RTM_DELLINK, 0, link_header(ifindex));
  auto result = kernel_.exchange(message, fmt::format("{}: delete", device(ifindex)));
  if (!result && result.error().sys == ENODEV) return {};
  return result;
}

Result<> Socket::delete_links(const std::vector<std::uint32_t>& ifindexes) {
  if (ifindexes.size() == 1) return delete_link(ifindexes.front());
  for (const std::uint32_t ifindex : ifindexes) {
    Message message(RTM_SETLINK, 0, link_header(ifindex));
    message.u32(IFLA_GROUP, kDoomed);
    auto set = kernel_.exchange(message, fmt::format("{}: put into group {}", device(ifindex), kDoomed));
    if (!set && set.error().sys != ENODEV) return set;
  }
  FL_LET(const std::vector<Link> all, links());
  const bool foreign = std::ranges::any_of(
      all, [&](const Link& link) { return link.group == kDoomed && std::ranges::count(ifindexes, link.ifindex) == 0; });
  if (foreign) {  // whoever it is that uses our number keeps what they have
    for (const std::uint32_t ifindex : ifindexes) FL_TRY(delete_link(ifindex));
    return {};
  }
  Message message(RTM_DELLINK, 0, link_header(0));
  message.u32(IFLA_GROUP, kDoomed);
  auto result = kernel_.exchange(message, fmt::format("group {}: delete", kDoomed));
  if (!result && result.error().sys == ENODEV) return {};
  return result;
}

Result<Link> Socket::find_link(const std::string& name) {
  Message message(RTM_GETLINK, 0, link_header(0));
  message.text(IFLA_IFNAME, name).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  Link found;
  FL_TRY(kernel_.exchange(message, fmt::format("device {}: find", name),
                          [&](const nlmsghdr* header) { found = read_link(header); }));
  return found;
}

Result<std::vector<Link>> Socket::links() {
  Message message(RTM_GETLINK, NLM_F_DUMP, link_header(0));
  message.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  std::vector<Link> all;
  FL_TRY(kernel_.exchange(message, "list devices", [&](const nlmsghdr* header) { all.push_back(read_link(header)); }));
  return all;
}

Result<> Socket::add_address(std::uint32_t ifindex, const IpAddress& address) {
  ifaddrmsg header{};
  header.ifa_family = static_cast<std::uint8_t>(kernel_family(address.family()));
  header.ifa_prefixlen = static_cast<std::uint8_t>(address.bits());
  header.ifa_index = ifindex;
  Message message(RTM_NEWADDR, kReplace, header);
  message.address(IFA_LOCAL, address).address(IFA_ADDRESS, address).u32(IFA_FLAGS, IFA_F_NODAD | IFA_F_PERMANENT);
  return kernel_.exchange(message, fmt::format("{}: add address {}", device(ifindex), address));
}

Result<std::vector<IpAddress>> Socket::addresses(std::uint32_t ifindex) {
  ifaddrmsg header{};
  header.ifa_index = ifindex;
  Message message(RTM_GETADDR, NLM_F_DUMP, header);
  std::vector<IpAddress> all;
  FL_TRY(kernel_.exchange(message, fmt::format("{}: list addresses", device(ifindex)), [&](const nlmsghdr* entry) {
    const nlattr* address = nlmsg_find_attr(const_cast<nlmsghdr*>(entry), sizeof(ifaddrmsg), IFA_ADDRESS);
    if (address != nullptr) all.push_back(read_address(address));
  }));
  return all;
}

Result<> Socket::set_route(const Route& route) {
  const bool v4 = route.destination.family() == Family::kV4;
  rtmsg header{};
  header.rtm_family = static_cast<std::uint8_t>(kernel_family(route.destination.family()));
  header.rtm_dst_len = static_cast<std::uint8_t>(route.destination.prefix());
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = route.protocol;
  header.rtm_scope = v4 && !route.gateway ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  header.rtm_type = RTN_UNICAST;
  if (route.gateway) header.rtm_flags = RTNH_F_ONLINK;
  Message message(RTM_NEWROUTE, kReplace, header);
  if (route.destination.prefix() != 0) message.address(RTA_DST, route.destination.base());
  message.u32(RTA_OIF, route.ifindex);
  if (route.gateway) message.address(RTA_GATEWAY, *route.gateway);
  if (route.source) message.address(RTA_PREFSRC, *route.source);
  if (route.metric != 0) message.u32(RTA_PRIORITY, route.metric);
  return kernel_.exchange(message, fmt::format("{}: set route {}", device(route.ifindex), route.destination));
}

Result<std::vector<Cidr>> Socket::routes(std::uint32_t ifindex) {
  std::vector<Cidr> all;
  for (const Family family : {Family::kV4, Family::kV6}) {
    rtmsg header{};
    header.rtm_family = static_cast<std::uint8_t>(kernel_family(family));
    header.rtm_table = RT_TABLE_MAIN;
    Message message(RTM_GETROUTE, NLM_F_DUMP, header);
    message.u32(RTA_OIF, ifindex);
    FL_TRY(kernel_.exchange(message, fmt::format("{}: list routes", device(ifindex)), [&](const nlmsghdr* entry) {
      const auto* route = static_cast<const rtmsg*>(nlmsg_data(entry));
      const nlattr* destination = nlmsg_find_attr(const_cast<nlmsghdr*>(entry), sizeof(rtmsg), RTA_DST);
      const IpAddress base = destination != nullptr  ? read_address(destination)
                             : family == Family::kV4 ? IpAddress::from_v4({})
                                                     : IpAddress::from_v6({});
      const auto cidr = Cidr::parse(fmt::format("{}/{}", base, route->rtm_dst_len), true);
      if (cidr) all.push_back(*cidr);
    }));
  }
  return all;
}

Result<> Socket::set_neighbour(std::uint32_t ifindex, const IpAddress& address, const Mac& mac) {
  ndmsg header{};
  header.ndm_family = static_cast<std::uint8_t>(kernel_family(address.family()));
  header.ndm_ifindex = static_cast<int>(ifindex);
  header.ndm_state = NUD_PERMANENT;
  Message message(RTM_NEWNEIGH, kReplace, header);
  message.address(NDA_DST, address).bytes(NDA_LLADDR, mac.data(), mac.size());
  return kernel_.exchange(message, fmt::format("{}: set neighbour {}", device(ifindex), address));
}

}  // namespace fairlead::netlink
