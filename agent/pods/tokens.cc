// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/tokens.h"

#include <k8s/pod.pb.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "agent/base/log.h"
#include "agent/base/reconciler.h"

namespace fairlead::pods {
namespace {

constexpr Duration kDeadline = std::chrono::seconds(30);
constexpr auto kLongestUse = std::chrono::hours(24);
constexpr std::int64_t kDefaultSeconds = 3600;
constexpr Backoff kAgain{.first = std::chrono::seconds(10), .limit = std::chrono::seconds(120)};

std::pair<std::string, std::int64_t> key_of(const k8s::ServiceAccountTokenProjection& projection) {
  return {projection.audience(), projection.has_expirationseconds() ? projection.expirationseconds() : kDefaultSeconds};
}

// Answers on their way to one.
struct Gathering {
  std::size_t waiting = 1;  // and the loop that asks for them
  Result<> failure;
  std::function<void(Result<>)> done;

  void arrived(Result<> result) {
    if (!result) failure = std::move(result);
    if (--waiting == 0) done(std::move(failure));
  }
};

}  // namespace

WallTime renewal(WallTime issued, WallTime expires, double random) {
  constexpr WallTime::duration kMostJitter = std::chrono::seconds(10);
  const auto use = std::min<WallTime::duration>((expires - issued) * 4 / 5, kLongestUse);
  const std::chrono::duration<double> jitter = std::min(kMostJitter, use / 8);
  return issued + use - std::chrono::duration_cast<WallTime::duration>(jitter * random);
}

Tokens::Tokens(Loop& loop, const Clock& clock, std::optional<Ask> ask)
    : loop_(loop), clock_(clock), ask_(std::move(ask)), random_(std::random_device{}()) {}

void Tokens::renew(const k8s::Pod& pod, std::function<void(Result<>)> done) {
  auto gathering = std::make_shared<Gathering>();
  gathering->done = std::move(done);
  std::map<Key, std::string> wanted;  // and the volume that wants it first
  for (const auto& volume : pod.spec().volumes()) {
    for (const auto& source : volume.volumesource().projected().sources()) {
      if (source.has_serviceaccounttoken()) wanted.try_emplace(key_of(source.serviceaccounttoken()), volume.name());
    }
  }
  const auto& known = tokens_[pod.metadata().uid()];
  for (const auto& [key, volume] : wanted) {
    const auto at = known.find(key);
    if (at != known.end() && at->second.due > clock_.wall()) continue;
    ++gathering->waiting;
    ask(pod, volume, key, [gathering](Result<> result) { gathering->arrived(std::move(result)); });
  }
  if (wanted.empty()) tokens_.erase(pod.metadata().uid());
  gathering->arrived({});
}

void Tokens::ask(const k8s::Pod& pod, const std::string& volume, const Key& key, std::function<void(Result<>)> done) {
  if (!ask_) {
    return done(fail(Code::kUnavailable,
                     "volume '{}': a service account token comes from an API server, and this node has none", volume));
  }
  const auto& meta = pod.metadata();
  model::TokenAsk request{.pod = {meta.namespace_(), meta.name(), meta.uid()},
                          .service_account = pod.spec().serviceaccountname(),
                          .audiences = {},
                          .expiration_s = key.second};
  if (request.service_account.empty()) request.service_account = "default";
  if (!key.first.empty()) request.audiences.push_back(key.first);
  const WallTime asked = clock_.wall();
  ask_->call(loop_, request, kDeadline,
             [this, key, volume, done, asked, pod = request.pod, alive = std::weak_ptr(alive_)](auto answer) {
               if (alive.expired()) return;
               if (answer) {
                 const double random = std::uniform_real_distribution()(random_);
                 const WallTime due = renewal(asked, answer->expires, random);
                 tokens_[pod.uid].insert_or_assign(key, Token{.value = std::move(*answer), .due = due});
                 return done({});
               }
               Error error{answer.error().code, "failed to fetch token: " + answer.error().message(), 0};
               auto& tokens = tokens_[pod.uid];
               const auto old = tokens.find(key);
               if (old == tokens.end() || old->second.value.expires <= clock_.wall()) {
                 tokens.erase(key);
                 return done(fail_with(std::move(error), fmt::format("volume '{}'", volume)));
               }
               log::warn("pods", "a token was not renewed", {{"pod", pod.key()}, {"error", error}});
               old->second.due =
                   clock_.wall() + std::chrono::duration_cast<WallTime::duration>(kAgain.delay(++old->second.failures));
               done({});
             });
}

Result<std::string> Tokens::find(const k8s::Pod& pod, const k8s::ServiceAccountTokenProjection& projection) const {
  const auto tokens = tokens_.find(pod.metadata().uid());
  if (tokens != tokens_.end()) {
    const auto at = tokens->second.find(key_of(projection));
    if (at != tokens->second.end() && at->second.value.expires > clock_.wall()) return at->second.value.token;
  }
  return fail(Code::kUnavailable, "failed to fetch token: there is none that holds");
}

std::optional<WallTime> Tokens::due(const std::string& uid) const {
  std::optional<WallTime> first;
  const auto tokens = tokens_.find(uid);
  if (tokens == tokens_.end()) return first;
  for (const auto& [key, token] : tokens->second) first = std::min(first.value_or(token.due), token.due);
  return first;
}

}  // namespace fairlead::pods
