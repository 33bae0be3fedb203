// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/http.h"

#include <k8s/meta.pb.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "agent/base/log.h"
#include "agent/kube/api/credentials.h"
#include "agent/kube/api/exchange.h"
#include "agent/kube/api/wire.h"

namespace fairlead::kube {
namespace {

constexpr long kUnauthorized = 401;
// Exchanges over one connection; kube-apiserver allows 100.
constexpr std::size_t kStreams = 96;

// What the API's Status object in an error's body says, in either form; else the body's beginning.
std::string message_of(const std::string& body) {
  if (const auto raw = unwrap_object(body)) {
    k8s::Status status;
    if (status.ParseFromString(*raw)) return status.message();
  }
  const auto json = nlohmann::json::parse(body, nullptr, false);
  return json.is_object() ? json.value("message", std::string()) : body.substr(0, 300);
}

}  // namespace

std::string without_query(const std::string& path) {
  return path.substr(0, path.find('?'));
}

struct HttpClient::Impl : std::enable_shared_from_this<Impl> {
  Loop& loop;
  ClusterAccess access;
  Credentials credentials;
  std::vector<std::shared_ptr<CurlPool>> pools;    // for new exchanges, each with a connection
  std::vector<std::shared_ptr<CurlPool>> retired;  // until their last exchange ended
  std::string tls_stamp;                           // that the connections of `pools` were made under
  std::map<CallId, std::unique_ptr<Exchange>> calls;
  CallId last_id = 0;

  Impl(Loop& l, ClusterAccess a, const Clock& clock) : loop(l), access(std::move(a)), credentials(l, clock, access) {}

  // Asks who we are, then sends; in a turn of its own, since curl takes nothing new inside its callbacks.
  void start(CallId id) {
    loop.post([self = weak_from_this(), id] {
      const auto impl = self.lock();
      if (!impl) return;
      impl->credentials.get([self, id](Result<Credential> credential) {
        if (const auto client = self.lock()) client->run(id, std::move(credential));
      });
    });
  }

  void run(CallId id, Result<Credential> credential) {
    const auto at = calls.find(id);
    if (at == calls.end()) return;  // cancelled
    if (!credential) return finish(id, std::unexpected(std::move(credential).error()));
    std::erase_if(retired, [](const auto& former) { return former->running() == 0; });
    if (std::string stamp = credentials.tls_stamp(); stamp != tls_stamp) {
      tls_stamp = std::move(stamp);
      retired.insert(retired.end(), pools.begin(), pools.end());
      pools.clear();
    }
    at->second->run(access, std::move(*credential), pool_with_room());
  }

  // curl itself would make one connection for each exchange that does not fit into the first.
  std::shared_ptr<CurlPool> pool_with_room() {
    const auto roomy = std::ranges::find_if(pools, [](const auto& pool) { return pool->running() < kStreams; });
    if (roomy != pools.end()) return *roomy;
    return pools.emplace_back(
        std::make_shared<CurlPool>(loop, [this](CURL* easy, CURLcode code) { ended(easy, code); }));
  }

  // An exchange over one of its connections had no answer: no new one goes there.
  void retire(const std::shared_ptr<CurlPool>& pool) {
    if (std::erase(pools, pool) > 0) retired.push_back(pool);
  }

  void ended(CURL* easy, CURLcode code) {
    Exchange* exchange = nullptr;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &exchange);
    if (code == CURLE_OPERATION_TIMEDOUT) retire(exchange->pool);
    Result<HttpResponse> answer = exchange->end(code);
    const CallId id = exchange->id;
    if (answer && answer->status == kUnauthorized && !exchange->resent && credentials.refuse(exchange->credential)) {
      exchange->resent = true;
      return start(id);
    }
    finish(id, std::move(answer));
  }

  // `done` may start the next exchange or end this client, so it gets a turn of its own.
  void finish(CallId id, Result<HttpResponse> answer) {
    loop.post([self = weak_from_this(), id, answer = std::move(answer)]() mutable {
      const auto impl = self.lock();
      if (!impl) return;
      auto call = impl->calls.extract(id);
      if (!call.empty()) call.mapped()->done(std::move(answer));
    });
  }
};

HttpClient::HttpClient(Loop& loop, ClusterAccess access, const Clock& clock)
    : impl_(std::make_shared<Impl>(loop, std::move(access), clock)) {}

HttpClient::~HttpClient() {
  impl_->calls.clear();  // while the pools are there
}

HttpClient::CallId HttpClient::send(HttpRequest request, Done done, OnData on_data) {
  const CallId id = ++impl_->last_id;
  auto exchange = std::make_unique<Exchange>();
  exchange->id = id;
  exchange->request = std::move(request);
  exchange->done = std::move(done);
  exchange->on_data = std::move(on_data);
  impl_->calls.emplace(id, std::move(exchange));
  impl_->start(id);
  return id;
}

void HttpClient::cancel(CallId id) {
  impl_->calls.erase(id);
}

Loop& HttpClient::loop() const {
  return impl_->loop;
}

Result<> check_status(const HttpRequest& request, const HttpResponse& response) {
  if (response.status < 400) return {};
  const Code code = response.status == 401 || response.status == 403   ? Code::kDenied
                    : response.status == 404                           ? Code::kNotFound
                    : response.status == 409                           ? Code::kConflict
                    : response.status == 400 || response.status == 422 ? Code::kInvalid
                                                                       : Code::kUnavailable;
  return fail(code, "{} {}: {} {}", request.method, without_query(request.path), response.status,
              message_of(response.body));
}

}  // namespace fairlead::kube
