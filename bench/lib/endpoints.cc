// SPDX-License-Identifier: Apache-2.0
#include "bench/lib/endpoints.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace fairlead::bench {
namespace {

sockaddr_in socket_address(std::uint32_t address_be, std::uint16_t port) {
  return {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {address_be}, .sin_zero = {}};
}

// Closes without TIME_WAIT: a benchmark opens more connections than there are ports.
void reset_at_close(int fd) {
  const linger now{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

}  // namespace

Result<std::unique_ptr<Endpoints>> Endpoints::serve(std::uint16_t port) {
  std::unique_ptr<Endpoints> endpoints(new Endpoints);
  endpoints->listener_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in any = socket_address(INADDR_ANY, port);
  if (bind(endpoints->listener_.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)) != 0 ||
      listen(endpoints->listener_.get(), SOMAXCONN) != 0) {
    return fail_errno(errno, fmt::format("listen at port {}", port));
  }
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) return fail_errno(errno, "pipe");
  endpoints->wake_ = UniqueFd(ends[1]);
  endpoints->thread_ = std::thread([self = endpoints.get(), wake = ends[0]] { self->run(wake); });
  return endpoints;
}

Endpoints::~Endpoints() {
  wake_.reset();
  if (thread_.joinable()) thread_.join();
}

void Endpoints::run(int wake) const {
  const UniqueFd ended(wake);
  std::array<pollfd, 2> ready{pollfd{listener_.get(), POLLIN, 0}, pollfd{wake, POLLIN, 0}};
  while (poll(ready.data(), ready.size(), -1) > 0 && ready[1].revents == 0) {
    const UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    sockaddr_in reached{};
    socklen_t size = sizeof(reached);
    if (!client || getsockname(client.get(), reinterpret_cast<sockaddr*>(&reached), &size) != 0) continue;
    (void)send(client.get(), &reached.sin_addr, sizeof(reached.sin_addr), MSG_NOSIGNAL);
  }
}

std::optional<IpAddress> who_answers(const IpAddress& address, std::uint16_t port, std::chrono::milliseconds patience) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in to = socket_address(address.v4_be(), port);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0 && errno != EINPROGRESS) return {};
  reset_at_close(fd.get());
  pollfd answered{fd.get(), POLLIN, 0};
  std::array<std::uint8_t, 4> reached{};
  if (poll(&answered, 1, static_cast<int>(patience.count())) != 1 ||
      recv(fd.get(), reached.data(), reached.size(), MSG_DONTWAIT) != sizeof(reached)) {
    return {};
  }
  return IpAddress::from_v4(reached);
}

}  // namespace fairlead::bench
