// SPDX-License-Identifier: Apache-2.0
#include "agent/server/notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <string>

#include "agent/base/unique_fd.h"

namespace fairlead::server {

Result<> notify_systemd(std::string_view state) {
  const char* where = std::getenv("NOTIFY_SOCKET");
  if (where == nullptr) return {};
  const std::string path = where;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() < 2 || path.size() > sizeof address.sun_path || (path[0] != '/' && path[0] != '@')) {
    return fail(Code::kInvalid, "NOTIFY_SOCKET \"{}\" is not the name of a socket", path);
  }
  path.copy(address.sun_path, path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract name; its length counts
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno(errno, "socket");
  if (::sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), size) <
      0) {
    return fail_errno(errno, "notify " + path);
  }
  return {};
}

}  // namespace fairlead::server
