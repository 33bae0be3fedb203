// SPDX-License-Identifier: Apache-2.0
#include "agent/server/local_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <filesystem>

namespace fairlead::server {

LocalServer::LocalServer(Loop& loop, std::string path, Routes routes, LocalServerLimits limits)
    : loop_(loop),
      path_(std::move(path)),
      routes_(std::move(routes)),
      request_bytes_(limits.request_bytes),
      streams_(loop, limits.streams,
               [this](StreamServer::ClientId id, std::string& received) { on_data(id, received); }),
      self_(std::make_shared<LocalServer*>(this)) {}

LocalServer::~LocalServer() {
  struct stat now{};
  if (inode_ != 0 && ::stat(path_.c_str(), &now) == 0 && now.st_ino == inode_) ::unlink(path_.c_str());
}

Result<> LocalServer::start() {
  const std::string folder = std::filesystem::path(path_).parent_path();
  std::error_code error;
  if (std::filesystem::create_directories(folder, error)) {
    std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
  }
  if (error) return fail_errno(error.value(), "run folder " + folder);
  FL_LET(UniqueFd listener, bind_socket());
  streams_.listen(std::move(listener));
  return {};
}

Result<UniqueFd> LocalServer::bind_socket() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) {
    return fail(Code::kInvalid, "socket path \"{}\" has more than {} bytes", path_, sizeof address.sun_path - 1);
  }
  path_.copy(address.sun_path, path_.size());
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener || !probe) return fail_errno(errno, "socket");
  struct stat there{};
  if (::lstat(path_.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) return fail(Code::kExists, "{} exists and is not a socket", path_);
    if (::connect(probe.get(), name, sizeof address) == 0 || errno == EAGAIN) {
      return fail(Code::kExists, "another agent serves {}", path_);
    }
    ::unlink(path_.c_str());
  }
  if (::bind(listener.get(), name, sizeof address) != 0) return fail_errno(errno, "bind " + path_);
  // Until listen() nobody can connect, so the mode is right before it matters.
  if (::chmod(path_.c_str(), S_IRUSR | S_IWUSR) != 0) return fail_errno(errno, "chmod " + path_);
  if (::listen(listener.get(), SOMAXCONN) != 0) return fail_errno(errno, "listen " + path_);
  if (::stat(path_.c_str(), &there) == 0) inode_ = there.st_ino;
  return listener;
}

void LocalServer::on_data(StreamServer::ClientId id, std::string& received) {
  auto message = take_local_message(received, request_bytes_);
  if (!message) return answer(id, std::unexpected(std::move(message).error()));
  if (*message) dispatch(id, **message);
}

void LocalServer::dispatch(StreamServer::ClientId id, const Json& request) {
  const auto op_field = request.find("op");
  if (!request.is_object() || op_field == request.end() || !op_field->is_string()) {
    return answer(id, fail(Code::kInvalid, "the request has no \"op\""));
  }
  const auto op = op_field->get<std::string>();
  auto route = routes_.find(op);
  if (const auto dot = op.rfind('.'); route == routes_.end() && dot != std::string::npos) {
    route = routes_.find(op.substr(0, dot + 1));
  }
  if (route == routes_.end()) return answer(id, fail(Code::kInvalid, "no operation \"{}\"", op));
  streams_.hold(id);
  route->second.module.call(loop_, Inspect{op, request.value("args", Json())}, route->second.deadline,
                            [self = std::weak_ptr(self_), id](const Result<Json>& result) {
                              if (const auto server = self.lock()) (*server)->answer(id, result);
                            });
}

void LocalServer::answer(StreamServer::ClientId id, const Result<Json>& result) {
  std::string bytes = encode_local_message(encode_local_answer(result));
  if (bytes.size() > kLocalMessageLimit) {
    bytes = encode_local_message(encode_local_answer(
        fail(Code::kExhausted, "the answer has {} bytes: the limit is {}", bytes.size(), kLocalMessageLimit)));
  }
  streams_.answer(id, std::move(bytes));
}

}  // namespace fairlead::server
