// SPDX-License-Identifier: Apache-2.0
// TokenRequests: tokens of service accounts, bound to pods of this node, asked of the API server.
#pragma once

#include "agent/base/loop.h"
#include "agent/base/request.h"
#include "agent/kube/api/json_api.h"
#include "agent/model/rows.h"

namespace fairlead::kube {

// Owner: ApiSource; thread: its loop. One POST an ask; who asks keeps the token. Errors are the API server's: kDenied
// where the pod is not this node's (yet), kNotFound where the service account or the pod is gone.
class TokenRequests {
 public:
  TokenRequests(Loop& loop, JsonApi& api, Responder<model::TokenAsk, model::ServiceAccountToken> asks);

 private:
  void ask(const model::TokenAsk& ask, Reply<model::ServiceAccountToken> reply);

  JsonApi& api_;
  Responder<model::TokenAsk, model::ServiceAccountToken> asks_;
};

}  // namespace fairlead::kube
