// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/probes/socket_attempt.h"

#include <strings.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "agent/base/socket_name.h"

namespace fairlead::pods {

namespace {

constexpr std::size_t kMaxHead = 64 << 10;
constexpr std::size_t kMaxBody = 10 << 10;

struct Head {
  int status = 0;
  std::size_t size = 0;  // up to the body
  std::optional<std::size_t> content_length;
  bool chunked = false;
};

// The value of a header line, or nullopt where it is another's.
std::optional<std::string_view> value_of(std::string_view line, std::string_view name) {
  if (line.size() <= name.size() || line[name.size()] != ':' ||
      strncasecmp(line.data(), name.data(), name.size()) != 0) {
    return std::nullopt;
  }
  line.remove_prefix(name.size() + 1);
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  return line;
}

// The first complete head in `text`, from `at`; nullopt: more is needed. status 0: this is not HTTP.
std::optional<Head> parse_head(std::string_view text, std::size_t at) {
  constexpr std::string_view kVersion = "HTTP/1.";
  const std::string_view rest = text.substr(at);
  if (!kVersion.starts_with(rest.substr(0, kVersion.size()))) return Head{};
  const auto end = rest.find("\r\n\r\n");
  if (end == std::string_view::npos) return rest.size() > kMaxHead ? std::optional(Head{}) : std::nullopt;
  Head head;
  head.size = at + end + 4;
  if (rest.size() < 12 || rest[8] != ' ') return Head{};
  std::from_chars(rest.data() + 9, rest.data() + 12, head.status);
  for (auto line_at = rest.find("\r\n") + 2; line_at < end;) {
    const auto line = rest.substr(line_at, rest.find("\r\n", line_at) - line_at);
    line_at += line.size() + 2;
    if (const auto length = value_of(line, "Content-Length")) {
      std::size_t number = 0;
      const auto [last, error] = std::from_chars(length->data(), length->data() + length->size(), number);
      if (error == std::errc()) head.content_length = number;
    } else if (const auto coding = value_of(line, "Transfer-Encoding")) {
      head.chunked = coding->ends_with("chunked");
    }
  }
  return head;
}

}  // namespace

SocketAttempt::SocketAttempt(Loop& loop, const TcpConnect& tcp, Duration timeout, Done done)
    : SocketAttempt(loop, tcp.address, tcp.port, "", timeout, std::move(done)) {}

SocketAttempt::SocketAttempt(Loop& loop, const HttpGet& get, Duration timeout, Done done)
    : SocketAttempt(loop, get.address, get.port, http_request(get), timeout, std::move(done)) {
  if (get.tls) tls_ = std::make_unique<TlsClient>();
}

SocketAttempt::SocketAttempt(Loop& loop, const IpAddress& address, std::uint16_t port, std::string request,
                             Duration timeout, Done done)
    : loop_(loop),
      peer_(fmt::format(fmt::runtime(address.is_v4() ? "{}:{}" : "[{}]:{}"), address.str(), port)),
      port_(port),
      request_(std::move(request)),
      done_(std::move(done)) {
  timer_ = loop_.after(timeout, [this, timeout] {
    finish(false, fmt::format("{} {}: no answer within {} ms", request_.empty() ? "dial tcp" : "GET", peer_,
                              std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count()));
  });
  open(address);
}

void SocketAttempt::open(const IpAddress& address) {
  const SocketName name = socket_name(address, port_);
  socket_ = UniqueFd(socket(name.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket_) return later(fmt::format("socket for {}: {}", peer_, std::strerror(errno)));
  const linger none{.l_onoff = 1, .l_linger = 0};
  setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
  if (connect(socket_.get(), name.get(), name.size) != 0 && errno != EINPROGRESS) {
    return later(fmt::format("dial tcp {}: {}", peer_, std::strerror(errno)));
  }
  watch_ = loop_.watch(socket_.get(), Loop::Ready::kWrite, [this] { on_connected(); });
}

void SocketAttempt::on_connected() {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return finish(false, fmt::format("dial tcp {}: {}", peer_, std::strerror(error)));
  if (request_.empty()) return finish(true, {});
  sending_ = request_;
  if (tls_) {
    tls_->say(request_);
    if (!tls_->take({})) return finish(false, fmt::format("GET {}: {}", peer_, tls_->error()));
    sending_ = tls_->wire();
  }
  write();
}

void SocketAttempt::write() {
  sent_ = 0;
  watch_ = {};
  watch_ = loop_.watch(socket_.get(), Loop::Ready::kWrite, [this] { on_writable(); });
}

void SocketAttempt::on_writable() {
  const auto sent = send(socket_.get(), sending_.data() + sent_, sending_.size() - sent_, MSG_NOSIGNAL);
  if (sent < 0) {
    if (errno == EAGAIN || errno == EINTR) return;
    return finish(false, fmt::format("GET {}: write: {}", peer_, std::strerror(errno)));
  }
  sent_ += static_cast<std::size_t>(sent);
  if (sent_ < sending_.size()) return;
  watch_ = {};
  watch_ = loop_.watch(socket_.get(), Loop::Ready::kRead, [this] { on_readable(); });
}

void SocketAttempt::on_readable() {
  std::array<char, 4096> buffer;
  const auto got = recv(socket_.get(), buffer.data(), buffer.size(), 0);
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return;
    return finish(false, fmt::format("GET {}: read: {}", peer_, std::strerror(errno)));
  }
  const std::string_view bytes(buffer.data(), static_cast<std::size_t>(got));
  if (!tls_) {
    answer_ += bytes;
  } else if (got > 0 && !unwrap(bytes)) {
    return;
  }
  judge(got == 0 || (tls_ && tls_->ended()));
}

bool SocketAttempt::unwrap(std::string_view bytes) {
  if (!tls_->take(bytes)) {
    finish(false, fmt::format("GET {}: {}", peer_, tls_->error()));
    return false;
  }
  answer_ += tls_->plain();
  sending_ = tls_->wire();
  if (!sending_.empty()) write();
  return true;
}

void SocketAttempt::judge(bool end) {
  std::size_t at = 0;
  auto head = parse_head(answer_, at);
  while (head && head->status / 100 == 1) head = parse_head(answer_, at = head->size);  // 100 Continue and the like
  if (!head) {
    if (end) finish(false, fmt::format("GET {}: the connection ended before an answer", peer_));
    return;
  }
  if (head->status == 0) return finish(false, fmt::format("GET {}: the answer is not HTTP/1", peer_));
  const std::string_view body = std::string_view(answer_).substr(head->size);
  const bool whole = end || body.size() >= std::min(head->content_length.value_or(kMaxBody), kMaxBody) ||
                     head->status == 204 || head->status == 304 ||
                     (head->chunked && (body == "0\r\n\r\n" || body.ends_with("\r\n0\r\n\r\n")));
  if (!whole) return;
  if (head->status >= 200 && head->status < 400) return finish(true, {}, head->status);
  finish(false, fmt::format("HTTP probe failed with statuscode: {}", head->status), head->status);
}

void SocketAttempt::finish(bool success, std::string message, int status) {
  watch_.cancel();
  timer_.cancel();
  socket_.reset();
  const auto done = std::move(done_);  // it may destroy this
  done({success, std::move(message), status});
}

void SocketAttempt::later(std::string message) {
  timer_ =
      loop_.after(Duration::zero(), [this, text = std::move(message)]() mutable { finish(false, std::move(text)); });
}

}  // namespace fairlead::pods
