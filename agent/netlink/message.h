// SPDX-License-Identifier: Apache-2.0
// Message: one rtnetlink request being built. Private to agent/netlink.
#pragma once

#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "agent/base/ip.h"

namespace fairlead::netlink {

// Owns its buffer. A message holds far less than a page, so a put that does not fit is a bug and stops the program.
class Message {
 public:
  template <class Header>
  Message(std::uint16_t type, std::uint16_t flags, const Header& header)
      : message_(nlmsg_alloc_simple(type, NLM_F_REQUEST | flags), nlmsg_free) {
    append(&header, sizeof(header));
  }

  Message& bytes(int type, const void* data, std::size_t size);
  Message& text(int type, const std::string& value);
  Message& u32(int type, std::uint32_t value);
  Message& address(int type, const IpAddress& address);

  // Attributes put until the matching end() go inside attribute `type`.
  Message& begin(int type);
  Message& end();
  // A raw header inside an attribute, as VETH_INFO_PEER has.
  void append(const void* data, std::size_t size);

  nlmsghdr* header() { return nlmsg_hdr(message_.get()); }

 private:
  std::unique_ptr<nl_msg, void (*)(nl_msg*)> message_;
  nlattr* open_[4] = {};
  unsigned depth_ = 0;
};

// AF_INET or AF_INET6.
int kernel_family(Family family);

// The address in attribute `attr`, or 0.0.0.0 where it has neither 4 nor 16 bytes.
IpAddress read_address(const nlattr* attr);

}  // namespace fairlead::netlink
