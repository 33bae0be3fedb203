// SPDX-License-Identifier: Apache-2.0
// What a node has of routes, neighbours and addresses, read back and taken away.
#include "agent/netlink/routes.h"

#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "agent/netlink/message.h"
#include "agent/netlink/socket.h"

namespace fairlead::netlink {
namespace {

constexpr Family kFamilies[] = {Family::kV4, Family::kV6};

Cidr cidr_of(int family, const nlattr* base, unsigned prefix) {
  const IpAddress address = base != nullptr     ? read_address(base)
                            : family == AF_INET ? IpAddress::from_v4({})
                                                : IpAddress::from_v6({});
  return Cidr::parse(fmt::format("{}/{}", address, prefix), true).value_or(Cidr());
}

rtmsg route_header(const Route& route) {
  rtmsg header{};
  header.rtm_family = static_cast<std::uint8_t>(kernel_family(route.destination.family()));
  header.rtm_dst_len = static_cast<std::uint8_t>(route.destination.prefix());
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = route.protocol;
  header.rtm_scope = RT_SCOPE_NOWHERE;  // any
  header.rtm_type = RTN_UNICAST;
  return header;
}

// Nothing there to erase is success; so is a device that went with all that was on it.
Result<> unless_gone(Result<> result) {
  if (!result && (result.error().sys == ESRCH || result.error().sys == ENOENT || result.error().sys == ENODEV)) {
    return {};
  }
  return result;
}

}  // namespace

std::optional<Route> read_route(const nlmsghdr* header) {
  auto* message = const_cast<nlmsghdr*>(header);
  const auto* info = static_cast<const rtmsg*>(nlmsg_data(message));
  nlattr* attrs[RTA_MAX + 1];
  if (info->rtm_family != AF_INET && info->rtm_family != AF_INET6) return std::nullopt;
  if (info->rtm_table != RT_TABLE_MAIN || info->rtm_type != RTN_UNICAST ||
      nlmsg_parse(message, sizeof(*info), attrs, RTA_MAX, nullptr) != 0) {
    return std::nullopt;
  }
  Route route;
  route.destination = cidr_of(info->rtm_family, attrs[RTA_DST], info->rtm_dst_len);
  route.protocol = info->rtm_protocol;
  if (attrs[RTA_OIF] != nullptr) route.ifindex = nla_get_u32(attrs[RTA_OIF]);
  if (attrs[RTA_GATEWAY] != nullptr) route.gateway = read_address(attrs[RTA_GATEWAY]);
  if (attrs[RTA_PREFSRC] != nullptr) route.source = read_address(attrs[RTA_PREFSRC]);
  if (attrs[RTA_PRIORITY] != nullptr) route.metric = nla_get_u32(attrs[RTA_PRIORITY]);
  return route;
}

Result<std::vector<Route>> Socket::routes_of(std::uint8_t protocol) {
  std::vector<Route> all;
  for (const Family family : kFamilies) {
    rtmsg header{};
    header.rtm_family = static_cast<std::uint8_t>(kernel_family(family));
    header.rtm_table = RT_TABLE_MAIN;
    header.rtm_protocol = protocol;
    Message message(RTM_GETROUTE, NLM_F_DUMP, header);
    FL_TRY(kernel_.exchange(message, fmt::format("list routes of protocol {}", protocol), [&](const nlmsghdr* entry) {
      auto route = read_route(entry);
      if (route && route->protocol == protocol) all.push_back(std::move(*route));
    }));
  }
  return all;
}

Result<> Socket::erase_route(const Route& route) {
  Message message(RTM_DELROUTE, 0, route_header(route));
  if (route.destination.prefix() != 0) message.address(RTA_DST, route.destination.base());
  message.u32(RTA_OIF, route.ifindex);
  if (route.gateway) message.address(RTA_GATEWAY, *route.gateway);
  if (route.metric != 0) message.u32(RTA_PRIORITY, route.metric);
  return unless_gone(kernel_.exchange(message, fmt::format("erase route {}", route.destination)));
}

Result<std::vector<InterfaceAddress>> Socket::interface_addresses() {
  Message message(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{});
  std::vector<InterfaceAddress> all;
  FL_TRY(kernel_.exchange(message, "list addresses", [&](const nlmsghdr* entry) {
    auto* header = const_cast<nlmsghdr*>(entry);
    const auto* info = static_cast<const ifaddrmsg*>(nlmsg_data(header));
    // Of a point-to-point link IFA_ADDRESS is the other end.
    const nlattr* address = nlmsg_find_attr(header, sizeof(*info), IFA_LOCAL);
    if (address == nullptr) address = nlmsg_find_attr(header, sizeof(*info), IFA_ADDRESS);
    if (address != nullptr) all.push_back({info->ifa_index, read_address(address), info->ifa_prefixlen});
  }));
  return all;
}

Result<> Socket::erase_address(std::uint32_t ifindex, const InterfaceAddress& address) {
  ifaddrmsg header{};
  header.ifa_family = static_cast<std::uint8_t>(kernel_family(address.address.family()));
  header.ifa_prefixlen = static_cast<std::uint8_t>(address.prefix);
  header.ifa_index = ifindex;
  Message message(RTM_DELADDR, 0, header);
  message.address(IFA_LOCAL, address.address);
  auto erased = kernel_.exchange(message, fmt::format("device #{}: erase address {}", ifindex, address.address));
  if (!erased && erased.error().sys == EADDRNOTAVAIL) return {};
  return unless_gone(std::move(erased));
}

std::optional<Neighbour> read_neighbour(const nlmsghdr* header) {
  auto* message = const_cast<nlmsghdr*>(header);
  const nlattr* address = nlmsg_find_attr(message, sizeof(ndmsg), NDA_DST);
  const nlattr* mac = nlmsg_find_attr(message, sizeof(ndmsg), NDA_LLADDR);
  if (address == nullptr || mac == nullptr || nla_len(mac) != 6) return std::nullopt;
  Neighbour neighbour{.address = read_address(address)};
  std::memcpy(neighbour.mac.data(), nla_data(mac), neighbour.mac.size());
  return neighbour;
}

Result<std::vector<Neighbour>> Socket::neighbours(std::uint32_t ifindex) {
  Message message(RTM_GETNEIGH, NLM_F_DUMP, ndmsg{});
  message.u32(NDA_IFINDEX, ifindex);
  std::vector<Neighbour> all;
  FL_TRY(kernel_.exchange(message, fmt::format("device #{}: list neighbours", ifindex), [&](const nlmsghdr* entry) {
    const auto* info = static_cast<const ndmsg*>(nlmsg_data(entry));
    if (static_cast<std::uint32_t>(info->ndm_ifindex) != ifindex || (info->ndm_state & NUD_PERMANENT) == 0) return;
    if (const auto neighbour = read_neighbour(entry)) all.push_back(*neighbour);
  }));
  return all;
}

Result<> Socket::erase_neighbour(std::uint32_t ifindex, const IpAddress& address) {
  ndmsg header{};
  header.ndm_family = static_cast<std::uint8_t>(kernel_family(address.family()));
  header.ndm_ifindex = static_cast<int>(ifindex);
  Message message(RTM_DELNEIGH, 0, header);
  message.address(NDA_DST, address);
  return unless_gone(kernel_.exchange(message, fmt::format("device #{}: erase neighbour {}", ifindex, address)));
}

}  // namespace fairlead::netlink
