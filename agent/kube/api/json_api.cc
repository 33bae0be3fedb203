// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/json_api.h"

namespace fairlead::kube {

void JsonApi::send(const char* method, const std::string& path, const Json& body, const char* type, Done done) {
  HttpRequest request;
  request.method = method;
  request.path = path;
  request.headers = {"Accept: application/json"};
  if (!body.is_null()) {
    request.headers.push_back(fmt::format("Content-Type: {}", type));
    request.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  http_.send(request, [request, done = std::move(done)](Result<HttpResponse> answer) {
    if (!answer) return done(std::unexpected(std::move(answer).error()));
    if (auto status = check_status(request, *answer); !status) return done(std::unexpected(std::move(status).error()));
    Json object = Json::parse(answer->body, nullptr, false);
    if (object.is_discarded())
      return done(fail(Code::kInvalid, "{} {}: the answer is not JSON", request.method, request.path));
    done(std::move(object));
  });
}

}  // namespace fairlead::kube
