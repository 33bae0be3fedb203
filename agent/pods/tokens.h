// SPDX-License-Identifier: Apache-2.0
// Tokens: the service account tokens that pods' volumes project, asked of the API server and renewed before they end.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/base/request.h"
#include "agent/model/rows.h"

namespace k8s {
class ServiceAccountTokenProjection;
}

namespace fairlead::pods {

// When a token is to be renewed: at 80 % of its life, or after a day, a little earlier by `random` in [0, 1).
WallTime renewal(WallTime issued, WallTime expires, double random);

// Owner: PodVolumeSetup. Thread: its loop. In memory alone: a new agent asks for new ones. A token whose renewal fails
// serves until it expires, and is asked for again meanwhile.
class Tokens {
 public:
  using Ask = Caller<model::TokenAsk, model::ServiceAccountToken>;
  // nullopt: there is no API server, and so no token for anybody.
  Tokens(Loop& loop, const Clock& clock, std::optional<Ask> ask);

  // Asks for every token of the pod's volumes that is missing or due, and answers once, on the loop, when none is on
  // its way any more. An error names the volume whose token is not to be had.
  void renew(const k8s::Pod& pod, std::function<void(Result<>)> done);
  // kUnavailable: there is none that still holds.
  Result<std::string> find(const k8s::Pod& pod, const k8s::ServiceAccountTokenProjection& projection) const;
  // When renew() is next to be called for the pod; nullopt: it has no tokens.
  std::optional<WallTime> due(const std::string& uid) const;
  void forget(const std::string& uid) { tokens_.erase(uid); }

 private:
  using Key = std::pair<std::string, std::int64_t>;  // audience, seconds
  struct Token {
    model::ServiceAccountToken value;
    WallTime due;
    unsigned failures = 0;  // of its renewal, in a row
  };
  void ask(const k8s::Pod& pod, const std::string& volume, const Key& key, std::function<void(Result<>)> done);

  Loop& loop_;
  const Clock& clock_;
  std::optional<Ask> ask_;
  std::minstd_rand random_;
  std::map<std::string, std::map<Key, Token>> tokens_;  // by pod uid
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace fairlead::pods
