// SPDX-License-Identifier: Apache-2.0
// TlsClient: the client's side of a TLS connection as a transformation of bytes; whose socket they travel on is
// another's affair.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace fairlead::pods {

// Owner: one attempt of a probe. The peer's certificate is not looked at: a probe asks whether a container answers, as
// with kubelet. Cost: a handshake's arithmetic.
class TlsClient {
 public:
  TlsClient();
  ~TlsClient();
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  // Takes bytes that came from the peer (none: begins). False: the connection is broken, error() says why.
  bool take(std::string_view wire);
  // What is to be sent to the peer; `plain` travels once the handshake is through.
  void say(std::string_view plain) { waiting_ += plain; }
  std::string wire();
  // What the peer has said since the last call.
  std::string plain() { return std::exchange(plain_, {}); }
  bool ended() const { return ended_; }  // the peer has said that it will say no more
  const std::string& error() const { return error_; }

 private:
  struct State;
  bool pump();
  bool judge(int result, const char* what);

  std::unique_ptr<State> state_;
  std::string waiting_;
  std::string plain_;
  bool ended_ = false;
  std::string error_;
};

}  // namespace fairlead::pods
