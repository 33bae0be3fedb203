// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/sock_diag.h"

#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "agent/netlink/message.h"
#include "agent/netlink/netns.h"

namespace fairlead::netlink {
namespace {

// States in which a socket has a peer; a connected UDP socket is "established".
std::uint32_t connected_states(std::uint8_t protocol) {
  std::uint32_t states = 1U << TCP_ESTABLISHED;
  if (protocol != IPPROTO_TCP) return states;
  for (const int state : {TCP_SYN_SENT, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING}) {
    states |= 1U << state;
  }
  return states;
}

}  // namespace

Result<SockDiag> SockDiag::open_in(const std::string& path) {
  std::optional<Conversation> kernel;
  FL_TRY(inside_netns(path, [&](const UniqueFd&) -> Result<> {
    auto opened = Conversation::open(NETLINK_SOCK_DIAG);
    if (!opened) return fail_with(std::move(opened).error(), fmt::format("network namespace {}", path));
    kernel.emplace(std::move(*opened));
    return {};
  }));
  return SockDiag(std::move(*kernel));
}

Result<> SockDiag::visit_connected(std::uint8_t family, std::uint8_t protocol, const VisitSocket& visit) {
  inet_diag_req_v2 request{};
  request.sdiag_family = family;
  request.sdiag_protocol = protocol;
  request.idiag_states = connected_states(protocol);
  Message message(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request);
  return kernel_.exchange(message, "list connected sockets", [&](const nlmsghdr* answer) {
    if (nlmsg_datalen(answer) < static_cast<int>(sizeof(inet_diag_msg))) return;
    const auto* socket = static_cast<const inet_diag_msg*>(nlmsg_data(answer));
    visit({socket->idiag_family, protocol, socket->id});
  });
}

Result<bool> SockDiag::destroy(const KernelSocket& socket) {
  inet_diag_req_v2 request{};
  request.sdiag_family = socket.family;
  request.sdiag_protocol = socket.protocol;
  request.id = socket.id;
  Message message(SOCK_DESTROY, 0, request);
  const auto ended = kernel_.exchange(message, "end a socket");
  if (ended) return true;
  if (ended.error().sys == ENOENT) return false;
  return std::unexpected(ended.error());
}

}  // namespace fairlead::netlink
