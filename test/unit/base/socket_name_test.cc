// SPDX-License-Identifier: Apache-2.0
#include "agent/base/socket_name.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

namespace fairlead {
namespace {

TEST(SocketName, SaysWhatItWasMadeOf) {
  for (const char* text : {"192.0.2.1:80", "[2001:db8::1]:65535", "0.0.0.0:0", "[::ffff:192.0.2.1]:1"}) {
    const SocketAddress at = SocketAddress::parse(text).value();
    const SocketName name = socket_name(at.address, at.port);
    EXPECT_EQ(name.family(), at.address.is_v4() ? AF_INET : AF_INET6);
    EXPECT_EQ(name.size, at.address.is_v4() ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    EXPECT_EQ(socket_address(*name.get()), at) << text;
  }
}

TEST(SocketName, IsInNetworkOrder) {
  const SocketName name = socket_name(IpAddress::parse("127.0.0.1").value(), 0x1234);
  const auto& v4 = reinterpret_cast<const sockaddr_in&>(name.storage);
  EXPECT_EQ(v4.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
  EXPECT_EQ(v4.sin_port, htons(0x1234));
}

TEST(SocketName, OfAnotherFamilySaysNothing) {
  SocketName name;
  EXPECT_FALSE(socket_address(*name.get()));
  name.storage.ss_family = AF_UNIX;
  EXPECT_FALSE(socket_address(*name.get()));
}

}  // namespace
}  // namespace fairlead
