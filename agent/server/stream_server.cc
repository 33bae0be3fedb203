// SPDX-License-Identifier: Apache-2.0
#include "agent/server/stream_server.h"

#include <sys/socket.h>

#include <cerrno>
#include <string_view>

#include "agent/base/log.h"

namespace fairlead::server {
namespace {

constexpr auto kAcceptPause = std::chrono::milliseconds(100);

bool would_block(int error) {
  return error == EAGAIN || error == EINTR;
}

}  // namespace

StreamServer::StreamServer(Loop& loop, StreamLimits limits, OnData on_data)
    : loop_(loop), limits_(limits), on_data_(std::move(on_data)) {}

void StreamServer::listen(UniqueFd listener) {
  listener_ = std::move(listener);
  accept_on();
}

void StreamServer::accept_on() {
  accepting_ = loop_.watch(listener_.get(), Loop::Ready::kRead, [this] { accept_all(); });
}

void StreamServer::accept_all() {
  while (clients_.size() < limits_.clients) {
    UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
      if (errno == ECONNABORTED || errno == EINTR) continue;
      if (errno == EAGAIN) return;
      // No descriptors or memory: the backlog keeps the client until there are.
      log::warn("server", "accept failed", {{"error", fail_errno(errno, "accept").error()}});
      accepting_.cancel();
      pause_ = loop_.after(kAcceptPause, [this] {
        pause_.cancel();
        accept_on();
      });
      return;
    }
    const ClientId id = ++next_id_;
    Client& client = clients_[id];
    client.fd = std::move(fd);
    client.io = loop_.watch(client.fd.get(), Loop::Ready::kRead, [this, id] { read_from(id); });
    client.timer = loop_.after(limits_.patience, [this, id] { end(id); });
  }
  accepting_.cancel();  // end() takes it up again
}

void StreamServer::read_from(ClientId id) {
  Client& client = clients_.at(id);
  char buffer[16 << 10];
  const ssize_t size = ::recv(client.fd.get(), buffer, sizeof buffer, 0);
  if (size < 0 && would_block(errno)) return;
  if (size <= 0) return end(id);
  client.received.append(buffer, static_cast<std::size_t>(size));
  on_data_(id, client.received);
}

void StreamServer::hold(ClientId id) {
  Client& client = clients_.at(id);
  client.io.cancel();
  client.timer.cancel();
}

void StreamServer::answer(ClientId id, std::string bytes) {
  hold(id);
  Client& client = clients_.at(id);
  client.answer = std::move(bytes);
  client.io = loop_.watch(client.fd.get(), Loop::Ready::kWrite, [this, id] { write_to(id); });
  client.timer = loop_.after(limits_.patience, [this, id] { end(id); });
}

void StreamServer::write_to(ClientId id) {
  Client& client = clients_.at(id);
  const std::string_view rest = std::string_view(client.answer).substr(client.sent);
  const ssize_t size = ::send(client.fd.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
  if (size < 0 && would_block(errno)) return;
  if (size < 0) return end(id);
  client.sent += static_cast<std::size_t>(size);
  if (client.sent == client.answer.size()) end(id);
}

void StreamServer::end(ClientId id) {
  clients_.erase(id);
  if (!accepting_ && !pause_) accept_on();
}

}  // namespace fairlead::server
