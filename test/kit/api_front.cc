// SPDX-License-Identifier: Apache-2.0
#include "test/kit/api_front.h"

namespace fairlead::testkit {
namespace {

constexpr unsigned kFront = 7443;
constexpr unsigned kProxy = 7001;
constexpr unsigned kBehind = 7002;

Result<Process> socat(const ControlPlane& plane, const std::string& from, const std::string& to) {
  return Process::start({"socat", from + ",fork,reuseaddr", to}, plane.folder() / "front.log");
}

}  // namespace

Result<ApiFront> ApiFront::start(const ControlPlane& plane, const std::string& address) {
  ApiFront front;
  front.url_ = fmt::format("https://{}:{}", address, kFront);
  // The API server's own certificate, which names its address.
  const std::string key = plane.folder() / "pki/apiserver.key";
  const std::string certificate = plane.ca_file();
  FL_LET(
      front.before_,
      socat(plane, fmt::format("OPENSSL-LISTEN:{},bind={},cert={},key={},verify=0", kFront, address, certificate, key),
            fmt::format("TCP:127.0.0.1:{}", kProxy)));
  FL_LET(auto proxy, FaultyProxy::start(fmt::format("127.0.0.1:{}", kProxy), fmt::format("127.0.0.1:{}", kBehind)));
  front.proxy_.emplace(std::move(proxy));
  const std::string server = plane.url().substr(plane.url().find("//") + 2);
  FL_LET(front.behind_, socat(plane, fmt::format("TCP-LISTEN:{},bind=127.0.0.1", kBehind),
                              fmt::format("OPENSSL:{},cafile={}", server, certificate)));
  const bool answers = eventually([&] {
    return run_command(fmt::format("curl --silent --cacert {} {}/livez", certificate, front.url_)).code == 0;
  });
  if (!answers) return fail(Code::kUnavailable, "{} does not answer", front.url_);
  return front;
}

void ApiFront::answer(const std::string& head, const std::string& body) {
  proxy_->answer_with(
      fmt::format("HTTP/1.1 {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}", head, body.size(), body));
}

}  // namespace fairlead::testkit
