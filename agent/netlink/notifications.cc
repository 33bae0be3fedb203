// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/notifications.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <string>
#include <utility>

namespace fairlead::netlink {

namespace {

// The kernel sends a message of another type to others alone. A filter loads in network order.
bool keep_only(int fd, std::uint16_t type) {
  std::array<sock_filter, 4> program{{BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(nlmsghdr, nlmsg_type)),
                                      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(type), 0, 1),
                                      BPF_STMT(BPF_RET | BPF_K, 0xffffffff), BPF_STMT(BPF_RET | BPF_K, 0)}};
  const sock_fprog filter{.len = program.size(), .filter = program.data()};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) == 0;
}

}  // namespace

Result<UniqueFd> Notifications::subscribe(std::uint32_t groups, const char* what, std::optional<std::uint16_t> type) {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  if (!fd || (type && !keep_only(fd.get(), *type)) ||
      bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_errno(errno, std::string("subscribe to changes of ") + what);
  }
  return fd;
}

Notifications::Notifications(Loop& loop, UniqueFd fd, Handlers handlers)
    : fd_(std::move(fd)),
      handlers_(std::move(handlers)),
      subscription_(loop.watch(fd_.get(), Loop::Ready::kRead, [this] { read(); })) {}

void Notifications::read() {
  alignas(nlmsghdr) std::array<char, 32U << 10> buffer;
  while (true) {
    const ssize_t size = recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == ENOBUFS) {
      handlers_.missed();
      continue;
    }
    if (size <= 0) return;
    auto left = static_cast<unsigned>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      handlers_.message(header);
    }
  }
}

}  // namespace fairlead::netlink
