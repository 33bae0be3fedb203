// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/tokens.h"

#include <memory>
#include <utility>

#include "agent/kube/codec/time.h"

namespace fairlead::kube {
namespace {

Result<model::ServiceAccountToken> read_token(const Json& answer) {
  model::ServiceAccountToken token;
  token.token = text_at(answer, "/status/token");
  if (token.token.empty()) return fail(Code::kInvalid, "TokenRequest: status.token is empty");
  const auto expires = parse_time(text_at(answer, "/status/expirationTimestamp"));
  if (!expires) return fail_with(expires.error(), "TokenRequest: status.expirationTimestamp");
  token.expires = WallTime(std::chrono::seconds(expires->seconds));
  return token;
}

}  // namespace

TokenRequests::TokenRequests(Loop& loop, JsonApi& api, Responder<model::TokenAsk, model::ServiceAccountToken> asks)
    : api_(api), asks_(std::move(asks)) {
  asks_.attach(loop, [this](const model::TokenAsk& request, Reply<model::ServiceAccountToken> reply) {
    ask(request, std::move(reply));
  });
}

void TokenRequests::ask(const model::TokenAsk& ask, Reply<model::ServiceAccountToken> reply) {
  const Json bound{{"apiVersion", "v1"}, {"kind", "Pod"}, {"name", ask.pod.name}, {"uid", ask.pod.uid}};
  Json spec{{"expirationSeconds", ask.expiration_s}, {"boundObjectRef", bound}};
  spec["audiences"] = ask.audiences;
  // std::function wants what can be copied; a Reply cannot.
  auto answer = std::make_shared<Reply<model::ServiceAccountToken>>(std::move(reply));
  api_.create(fmt::format("/api/v1/namespaces/{}/serviceaccounts/{}/token", ask.pod.ns, ask.service_account),
              {{"apiVersion", "authentication.k8s.io/v1"}, {"kind", "TokenRequest"}, {"spec", spec}},
              [answer](Result<Json> made) {
                if (!made) return (*answer)(std::unexpected(std::move(made).error()));
                (*answer)(read_token(*made));
              });
}

}  // namespace fairlead::kube
