// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/api_work.h"

#include <random>
#include <utility>

#include "agent/base/log.h"

namespace fairlead::kube {

Duration jittered(Duration wait) {
  static thread_local std::minstd_rand random{std::random_device{}()};
  return Duration(std::uniform_int_distribution<Duration::rep>(wait.count() / 2, wait.count())(random));
}

void ApiWork::mark(const std::string& key) {
  Entry& entry = entries_[key];
  if (!entry.exchange.begin()) return;
  entry.retry.cancel();
  step_(key, [this, key](Result<> result) { ended(key, std::move(result)); });
}

void ApiWork::ended(const std::string& key, Result<> result) {
  Entry& entry = entries_.at(key);
  const bool again = entry.exchange.end();
  if (result) {
    entry.failures = 0;
    if (again) return mark(key);
    entries_.erase(key);
    return;
  }
  if (failed_) failed_();
  entry.error = std::move(result).error();
  const Duration wait = jittered(backoff_.delay(++entry.failures));
  log::write(entry.failures == 1 ? log::Level::kWarn : log::Level::kDebug, "api", "not taken, will try again",
             {{"what", what_}, {"key", key}, {"error", entry.error}});
  entry.retry = loop_.after(wait, [this, key] { mark(key); });
}

std::map<std::string, Error> ApiWork::failing() const {
  std::map<std::string, Error> all;
  for (const auto& [key, entry] : entries_) {
    if (entry.failures > 0) all.emplace(key, entry.error);
  }
  return all;
}

}  // namespace fairlead::kube
