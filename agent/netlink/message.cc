// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/message.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>

namespace fairlead::netlink {
namespace {

void must(bool fits) {
  if (!fits) std::abort();
}

}  // namespace

Message& Message::bytes(int type, const void* data, std::size_t size) {
  must(nla_put(message_.get(), type, static_cast<int>(size), data) == 0);
  return *this;
}

Message& Message::text(int type, const std::string& value) {
  return bytes(type, value.c_str(), value.size() + 1);
}

Message& Message::u32(int type, std::uint32_t value) {
  return bytes(type, &value, sizeof(value));
}

Message& Message::address(int type, const IpAddress& address) {
  return bytes(type, address.bytes().data(), address.bytes().size());
}

Message& Message::begin(int type) {
  must(depth_ < std::size(open_));
  open_[depth_] = nla_nest_start(message_.get(), type);
  must(open_[depth_++] != nullptr);
  return *this;
}

Message& Message::end() {
  nla_nest_end(message_.get(), open_[--depth_]);
  return *this;
}

void Message::append(const void* data, std::size_t size) {
  must(nlmsg_append(message_.get(), const_cast<void*>(data), size, NLMSG_ALIGNTO) == 0);
}

int kernel_family(Family family) {
  return family == Family::kV4 ? AF_INET : AF_INET6;
}

IpAddress read_address(const nlattr* attr) {
  const auto* data = static_cast<const std::uint8_t*>(nla_data(attr));
  if (nla_len(attr) == 16) {
    std::array<std::uint8_t, 16> bytes{};
    std::copy_n(data, bytes.size(), bytes.begin());
    return IpAddress::from_v6(bytes);
  }
  std::array<std::uint8_t, 4> bytes{};
  if (nla_len(attr) == 4) std::copy_n(data, bytes.size(), bytes.begin());
  return IpAddress::from_v4(bytes);
}

}  // namespace fairlead::netlink
