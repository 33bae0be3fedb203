// SPDX-License-Identifier: Apache-2.0
#include "agent/base/local_protocol.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace fairlead {
namespace {

constexpr std::size_t kPrefix = 4;
constexpr int kDepthLimit = 64;  // deeper values are dropped: copies of JSON recurse

// One connection of one call. Blocking, bounded by `deadline`.
class Connection {
 public:
  Connection(const std::string& path, TimePoint deadline) : path_(path), deadline_(deadline) {}
  ~Connection() {
    if (fd_ >= 0) ::close(fd_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Result<> open() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path_.empty() || path_.size() >= sizeof address.sun_path) {
      return fail(Code::kInvalid, "socket path \"{}\": want 1 to {} bytes", path_, sizeof address.sun_path - 1);
    }
    path_.copy(address.sun_path, path_.size());
    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd_ < 0) return fail_errno(errno, "socket");
    // A full backlog makes connect() wait; the send timeout bounds that too.
    const auto left = std::chrono::ceil<std::chrono::microseconds>(remaining()).count();
    const timeval timeout{left / 1'000'000, left % 1'000'000};
    if (::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0)
      return fail_errno(errno, "setsockopt");
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return {};
    const int error = errno;
    if (error == EAGAIN) return late();
    auto failure = fail_errno(error, "no agent at " + path_);
    if (error == ENOENT || error == ECONNREFUSED) failure.error().code = Code::kUnavailable;
    return failure;
  }

  Result<> send(std::string_view bytes) {
    while (!bytes.empty()) {
      FL_TRY(wait(POLLOUT));
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN && errno != EINTR) return fail_errno(errno, "send to agent at " + path_);
      if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return {};
  }

  Result<Json> receive() {
    std::string received;
    char buffer[16 << 10];
    while (true) {
      FL_TRY(wait(POLLIN));
      const ssize_t size = ::recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT);
      if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (size < 0) return fail_errno(errno, "receive from agent at " + path_);
      if (size == 0) return fail(Code::kUnavailable, "agent at {} closed the connection without an answer", path_);
      received.append(buffer, static_cast<std::size_t>(size));
      FL_LET(std::optional<Json> message, take_local_message(received));
      if (message) return std::move(*message);
    }
  }

 private:
  // At least 1 µs: a timeout of zero would mean none.
  Duration remaining() const {
    return std::max<Duration>(deadline_ - SystemClock().now(), std::chrono::microseconds(1));
  }
  std::unexpected<Error> late() const { return fail(Code::kTimeout, "no answer from agent at {} in time", path_); }

  Result<> wait(short events) const {
    while (SystemClock().now() < deadline_) {
      pollfd poll{fd_, events, 0};
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(remaining()).count();
      const int ready = ::poll(&poll, 1, static_cast<int>(std::min<std::int64_t>(left, 3'600'000)));
      if (ready > 0) return {};
      if (ready < 0 && errno != EINTR) return fail_errno(errno, "poll");
    }
    return late();
  }

  const std::string& path_;
  TimePoint deadline_;
  int fd_ = -1;
};

Code parse_code(std::string_view text) {
  for (int i = 0; i <= static_cast<int>(Code::kSystem); ++i) {
    if (text == to_string(static_cast<Code>(i))) return static_cast<Code>(i);
  }
  return Code::kSystem;
}

}  // namespace

std::string encode_local_message(const Json& message) {
  const std::string text = message.dump(-1, ' ', false, Json::error_handler_t::replace);
  const auto size = static_cast<std::uint32_t>(text.size());
  std::string out;
  out.reserve(kPrefix + text.size());
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>((size >> shift) & 0xff));
  return out += text;
}

Result<std::optional<Json>> take_local_message(std::string& received, std::size_t limit) {
  if (received.size() < kPrefix) return std::nullopt;
  std::size_t size = 0;
  for (std::size_t i = 0; i < kPrefix; ++i) size = size << 8 | static_cast<unsigned char>(received[i]);
  if (size > limit) return fail(Code::kInvalid, "message of {} bytes: the limit is {}", size, limit);
  if (received.size() - kPrefix < size) return std::nullopt;
  const auto shallow = [](int depth, Json::parse_event_t, Json&) { return depth < kDepthLimit; };
  const auto first = received.begin() + kPrefix;
  const auto last = first + static_cast<std::ptrdiff_t>(size);
  Json message = Json::parse(first, last, shallow, /*allow_exceptions=*/false);
  received.erase(received.begin(), last);
  if (message.is_discarded()) return fail(Code::kInvalid, "message of {} bytes is not JSON", size);
  return message;
}

Json encode_local_answer(const Result<Json>& result) {
  if (result) return {{"ok", true}, {"result", *result}};
  const Error& error = result.error();
  return {{"ok", false}, {"error", {{"code", to_string(error.code)}, {"message", error.message()}}}};
}

Result<Json> decode_local_answer(const Json& answer) {
  const auto ok = answer.find("ok");
  if (!answer.is_object() || ok == answer.end() || !ok->is_boolean()) {
    return fail(Code::kInvalid, "the agent's answer has no \"ok\"");
  }
  if (*ok == true) return answer.value("result", Json());
  const Json error = answer.value("error", Json::object());
  if (!error.is_object()) return fail(Code::kInvalid, "the agent's error is not an object");
  const auto text = [&error](const char* field) {
    const auto at = error.find(field);
    return at != error.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  return std::unexpected(Error{parse_code(text("code")), text("message"), 0});
}

Result<Json> local_call(const std::string& socket_path, const std::string& op, const Json& args, Duration deadline) {
  const std::string request = encode_local_message({{"op", op}, {"args", args}});
  if (request.size() - kPrefix > kLocalMessageLimit) {
    return fail(Code::kInvalid, "{}: request of {} bytes: the limit is {}", op, request.size(), kLocalMessageLimit);
  }
  Connection connection(socket_path, SystemClock().now() + deadline);
  FL_TRY(connection.open());
  FL_TRY(connection.send(request));
  FL_LET(const Json answer, connection.receive());
  return decode_local_answer(answer);
}

}  // namespace fairlead
