// SPDX-License-Identifier: Apache-2.0
#include "agent/server/notify.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdlib>
#include <string>

#include "agent/base/unique_fd.h"

namespace fairlead::server {
namespace {

// Both kinds of socket that systemd hands out: a file and an abstract name.
class Notify : public testing::TestWithParam<bool> {};

TEST_P(Notify, ReachesTheServiceManager) {
  const std::string name = testing::TempDir() + "notify_test." + std::to_string(::getpid());
  const bool abstract = GetParam();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path + (abstract ? 1 : 0), name.size());
  const std::size_t length = offsetof(sockaddr_un, sun_path) + name.size() + (abstract ? 1 : 0);
  const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), static_cast<socklen_t>(length)), 0);
  ::setenv("NOTIFY_SOCKET", ((abstract ? "@" : "") + name).c_str(), 1);
  const auto sent = notify_systemd("READY=1");
  ::unsetenv("NOTIFY_SOCKET");
  ::unlink(name.c_str());
  ASSERT_TRUE(sent) << sent.error().message();
  char buffer[64];
  const ssize_t size = ::recv(fd.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  ASSERT_GT(size, 0);
  EXPECT_EQ(std::string(buffer, static_cast<std::size_t>(size)), "READY=1");
}
INSTANTIATE_TEST_SUITE_P(Sockets, Notify, testing::Values(false, true));

TEST(NotifyErrors, AreSaidOrNotWorthSaying) {
  ::unsetenv("NOTIFY_SOCKET");
  EXPECT_TRUE(notify_systemd("READY=1"));
  ::setenv("NOTIFY_SOCKET", "relative", 1);
  EXPECT_EQ(notify_systemd("READY=1").error().code, Code::kInvalid);
  ::setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
  EXPECT_EQ(notify_systemd("READY=1").error().code, Code::kNotFound);
  ::unsetenv("NOTIFY_SOCKET");
}

}  // namespace
}  // namespace fairlead::server
