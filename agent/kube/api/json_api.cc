// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/json_api.h"

#include <algorithm>
#include <utility>

namespace fairlead::kube {
namespace {

constexpr unsigned kAttempts = 10;
constexpr Duration kLongestWait = std::chrono::minutes(1);

bool asks_to_wait(const HttpResponse& answer) {
  return (answer.status == 429 || answer.status == 503) && answer.retry_after > Duration::zero();
}

}  // namespace

std::string text_at(const Json& object, const std::string& pointer) {
  const Json::json_pointer at(pointer);
  if (!object.contains(at) || !object.at(at).is_string()) return {};
  return object.at(at).get<std::string>();
}

void JsonApi::send(const char* method, const std::string& path, const Json& body, const char* type, Done done) {
  HttpRequest request;
  request.method = method;
  request.path = path;
  request.headers = {"Accept: application/json"};
  if (!body.is_null()) {
    request.headers.push_back(fmt::format("Content-Type: {}", type));
    request.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  send(std::move(request), 1, std::move(done));
}

void JsonApi::send(HttpRequest request, unsigned attempt, Done done) {
  http_.send(request, [this, request, attempt, done = std::move(done)](Result<HttpResponse> answer) mutable {
    if (!answer) return done(std::unexpected(std::move(answer).error()));
    if (asks_to_wait(*answer) && attempt < kAttempts) {
      const std::uint64_t wait = ++last_wait_;
      waiting_[wait] =
          http_.loop().after(std::min(answer->retry_after, kLongestWait),
                             [this, wait, request = std::move(request), attempt, done = std::move(done)]() mutable {
                               const auto over = waiting_.extract(wait);
                               send(std::move(request), attempt + 1, std::move(done));
                             });
      return;
    }
    if (auto status = check_status(request, *answer); !status) return done(std::unexpected(std::move(status).error()));
    Json object = Json::parse(answer->body, nullptr, false);
    if (object.is_discarded()) {
      return done(fail(Code::kInvalid, "{} {}: the answer is not JSON", request.method, request.path));
    }
    done(std::move(object));
  });
}

}  // namespace fairlead::kube
