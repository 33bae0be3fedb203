// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/conversation.h"

#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>

#include "agent/netlink/message.h"

namespace fairlead::netlink {
namespace {

constexpr std::size_t kReceiveBuffer = 64U << 10;  // the kernel fills at most 32 KiB a message of a dump
constexpr timeval kReceiveTimeout{.tv_sec = 5, .tv_usec = 0};

std::string error_text(const nlmsghdr* header, const std::string& what) {
  // The kernel's own words, where it has any, come as an attribute after the error and the capped request.
  const auto* error = static_cast<const nlmsgerr*>(nlmsg_data(header));
  if ((header->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return what;
  std::size_t offset = sizeof(*error);
  if ((header->nlmsg_flags & NLM_F_CAPPED) == 0) offset += error->msg.nlmsg_len - sizeof(error->msg);
  const int left = nlmsg_datalen(header) - static_cast<int>(NLMSG_ALIGN(offset));
  const auto* first =
      reinterpret_cast<const nlattr*>(static_cast<const char*>(nlmsg_data(header)) + NLMSG_ALIGN(offset));
  const nlattr* message = left > 0 ? nla_find(first, left, NLMSGERR_ATTR_MSG) : nullptr;
  return message == nullptr ? what : fmt::format("{} ({})", what, nla_get_string(const_cast<nlattr*>(message)));
}

}  // namespace

Result<Conversation> Conversation::open(int protocol) {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  if (!fd) return fail_errno(errno, "open a netlink socket");
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kReceiveTimeout, sizeof(kReceiveTimeout));
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
  // Dumps are filtered by the kernel (by ifindex), not by us.
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
  return Conversation(std::move(fd));
}

Result<> Conversation::exchange(Message& message, const std::string& what,
                                const std::function<void(const nlmsghdr*)>& each) {
  nlmsghdr* request = message.header();
  request->nlmsg_seq = ++sequence_;
  if ((request->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP) request->nlmsg_flags |= NLM_F_ACK;
  if (send(fd_.get(), request, request->nlmsg_len, 0) < 0) return fail_errno(errno, what);
  alignas(nlmsghdr) thread_local std::array<char, kReceiveBuffer> buffer;
  while (true) {
    const ssize_t size = recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail_errno(errno, fmt::format("{}: no answer from the kernel", what));
    int left = static_cast<int>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); nlmsg_ok(header, left);
         header = nlmsg_next(header, &left)) {
      if (header->nlmsg_seq != sequence_) continue;  // of an exchange that was given up
      if (header->nlmsg_type == NLMSG_DONE) return {};
      if (header->nlmsg_type == NLMSG_ERROR) {
        const auto* error = static_cast<const nlmsgerr*>(nlmsg_data(header));
        if (error->error == 0) return {};
        return fail_errno(-error->error, error_text(header, what));
      }
      if (each) each(header);
    }
  }
}

}  // namespace fairlead::netlink
