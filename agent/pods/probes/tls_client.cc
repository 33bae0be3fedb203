// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/probes/tls_client.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <spdlog/fmt/fmt.h>

#include <array>

namespace fairlead::pods {
namespace {

using Context = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;

// One for all: it holds settings alone, and OpenSSL counts who uses it.
SSL_CTX* context() {
  static const Context shared = [] {
    Context made(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
    SSL_CTX_set_min_proto_version(made.get(), TLS1_2_VERSION);
    SSL_CTX_set_verify(made.get(), SSL_VERIFY_NONE, nullptr);
    SSL_CTX_set_session_cache_mode(made.get(), SSL_SESS_CACHE_OFF);
    return made;
  }();
  return shared.get();
}

}  // namespace

struct TlsClient::State {
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl{SSL_new(context()), SSL_free};
  BIO* in = BIO_new(BIO_s_mem());  // both belong to `ssl`
  BIO* out = BIO_new(BIO_s_mem());
};

TlsClient::TlsClient() : state_(std::make_unique<State>()) {
  SSL_set_bio(state_->ssl.get(), state_->in, state_->out);
  SSL_set_connect_state(state_->ssl.get());
}

TlsClient::~TlsClient() = default;

bool TlsClient::take(std::string_view wire) {
  if (!wire.empty()) BIO_write(state_->in, wire.data(), static_cast<int>(wire.size()));
  return pump();
}

// Goes on as far as what came leads.
bool TlsClient::pump() {
  SSL* ssl = state_->ssl.get();
  if (!SSL_is_init_finished(ssl)) {
    if (const int result = SSL_do_handshake(ssl); result != 1) return judge(result, "handshake");
  }
  if (!waiting_.empty()) {
    const std::string text = std::exchange(waiting_, {});  // a memory BIO takes it whole
    if (const int result = SSL_write(ssl, text.data(), static_cast<int>(text.size())); result <= 0) {
      return judge(result, "write");
    }
  }
  std::array<char, 4096> buffer;
  for (;;) {
    const int got = SSL_read(ssl, buffer.data(), static_cast<int>(buffer.size()));
    if (got <= 0) return judge(got, "read");
    plain_.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

// Whether `result` only says that more must come, or that the peer has ended in order.
bool TlsClient::judge(int result, const char* what) {
  const int kind = SSL_get_error(state_->ssl.get(), result);
  ended_ = kind == SSL_ERROR_ZERO_RETURN;
  if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE || ended_) return true;
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  error_ = fmt::format("tls {}: {}", what, reason == nullptr ? "the connection is broken" : reason);
  return false;
}

std::string TlsClient::wire() {
  std::string bytes(BIO_ctrl_pending(state_->out), '\0');
  if (!bytes.empty()) BIO_read(state_->out, bytes.data(), static_cast<int>(bytes.size()));
  return bytes;
}

}  // namespace fairlead::pods
