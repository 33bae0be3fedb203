// SPDX-License-Identifier: Apache-2.0
// HTTPS attempts over real loopback sockets, against OpenSSL's own server with a certificate that nobody vouches for.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include "agent/base/unique_fd.h"
#include "agent/pods/probes/socket_attempt.h"

namespace fairlead::pods {
namespace {

using namespace std::chrono_literals;

template <class T, auto kFree>
struct Free {
  void operator()(T* object) const { kFree(object); }
};
template <class T, auto kFree>
using Owned = std::unique_ptr<T, Free<T, kFree>>;

// A server's settings, with a fresh key and a certificate signed by itself.
Owned<SSL_CTX, SSL_CTX_free> server_context() {
  const Owned<EVP_PKEY, EVP_PKEY_free> key(EVP_EC_gen("P-256"));
  const Owned<X509, X509_free> certificate(X509_new());
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_sign(certificate.get(), key.get(), EVP_sha256());
  Owned<SSL_CTX, SSL_CTX_free> context(SSL_CTX_new(TLS_server_method()));
  EXPECT_EQ(SSL_CTX_use_certificate(context.get(), certificate.get()), 1);
  EXPECT_EQ(SSL_CTX_use_PrivateKey(context.get(), key.get()), 1);
  return context;
}

// Listens on a loopback port of its own.
struct Listener {
  UniqueFd fd{socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  std::uint16_t port = 0;

  Listener() {
    sockaddr_in at{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    socklen_t size = sizeof at;
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&at), size), 0);
    EXPECT_EQ(listen(fd.get(), 16), 0);
    getsockname(fd.get(), reinterpret_cast<sockaddr*>(&at), &size);
    port = ntohs(at.sin_port);
  }
};

// Answers one request a connection, on the test's own loop.
class Server {
 public:
  Server(Loop& loop, std::string answer) : loop_(loop), answer_(std::move(answer)) {
    watch_ = loop_.watch(listener_.fd.get(), Loop::Ready::kRead, [this] { accept_one(); });
  }

  std::uint16_t port() const { return listener_.port; }
  std::string request;

 private:
  void accept_one() {
    peer_ = UniqueFd(accept4(listener_.fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), peer_.get());
    SSL_set_accept_state(ssl_.get());
    peer_watch_ = loop_.watch(peer_.get(), Loop::Ready::kRead, [this] { serve(); });
  }
  void serve() {
    char buffer[4096];
    int got = 0;
    while ((got = SSL_read(ssl_.get(), buffer, sizeof buffer)) > 0) {
      request.append(buffer, static_cast<std::size_t>(got));
    }
    if (SSL_get_error(ssl_.get(), got) != SSL_ERROR_WANT_READ) return peer_watch_.cancel();
    if (!request.ends_with("\r\n\r\n")) return;
    SSL_write(ssl_.get(), answer_.data(), static_cast<int>(answer_.size()));
    SSL_shutdown(ssl_.get());
    peer_watch_.cancel();
  }

  Loop& loop_;
  std::string answer_;
  Owned<SSL_CTX, SSL_CTX_free> context_ = server_context();
  Listener listener_;
  UniqueFd peer_;
  Owned<SSL, SSL_free> ssl_;
  Subscription watch_;
  Subscription peer_watch_;
};

class HttpsAttemptTest : public testing::Test {
 protected:
  Loop loop;

  Attempt attempt(std::uint16_t port, Duration timeout = 10s) {
    const HttpGet get{
        .address = IpAddress::from_v4({127, 0, 0, 1}), .port = port, .path = "/", .headers = {}, .tls = true};
    std::optional<Attempt> result;
    const SocketAttempt running(loop, get, timeout, [&](Attempt attempt) {
      result = std::move(attempt);
      loop.stop();
    });
    loop.run();
    return result.value_or(Attempt{});
  }
};

TEST_F(HttpsAttemptTest, SucceedsWhoeverSignedTheCertificate) {
  Server server(loop, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  const Attempt got = attempt(server.port());
  EXPECT_TRUE(got.success) << got.message;
  EXPECT_EQ(got.status, 200);
  EXPECT_TRUE(server.request.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:")) << server.request;
}

TEST_F(HttpsAttemptTest, AnAnswerOfManyRecordsIsReadToItsEnd) {
  Server server(loop, "HTTP/1.1 500 Oops\r\n\r\n" + std::string(9000, 'x'));
  const Attempt got = attempt(server.port());
  EXPECT_FALSE(got.success);
  EXPECT_EQ(got.message, "HTTP probe failed with statuscode: 500");
}

// A server that speaks plainly: kubelet's probe fails, too.
TEST_F(HttpsAttemptTest, APlainServerFails) {
  const Listener listener;
  UniqueFd peer;
  const Subscription watch = loop.watch(listener.fd.get(), Loop::Ready::kRead, [&] {
    peer = UniqueFd(accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    constexpr std::string_view kAnswer = "HTTP/1.1 400 Bad Request\r\n\r\n";
    EXPECT_EQ(send(peer.get(), kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL), static_cast<ssize_t>(kAnswer.size()));
  });
  const Attempt got = attempt(listener.port);
  EXPECT_FALSE(got.success);
  EXPECT_TRUE(got.message.contains("tls handshake: ")) << got.message;
}

TEST_F(HttpsAttemptTest, APeerThatSaysNothingIsNotWaitedForLongerThanAsked) {
  const Listener listener;
  const Attempt got = attempt(listener.port, 50ms);
  EXPECT_FALSE(got.success);
  EXPECT_TRUE(got.message.ends_with(": no answer within 50 ms")) << got.message;
}

}  // namespace
}  // namespace fairlead::pods
