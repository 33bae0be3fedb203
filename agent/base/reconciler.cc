// SPDX-License-Identifier: Apache-2.0
#include "agent/base/reconciler.h"

#include <algorithm>

#include "agent/base/log.h"

namespace fairlead {

Reconciler::Reconciler(Loop& loop, std::string name, Target target, Backoff backoff, Duration audit_period)
    : loop_(loop), name_(std::move(name)), target_(std::move(target)), backoff_(backoff) {
  if (target_.audit && audit_period > Duration::zero()) {
    audit_ = loop_.every(audit_period, [this] {
      if (started_) target_.audit();
    });
  }
}

void Reconciler::mark(const std::string& key) {
  if (const auto at = failing_.find(key); at != failing_.end()) at->second.retry.cancel();
  if (dirty_.insert(key).second) queue_.push_back(key);
  schedule();
}

void Reconciler::start() {
  if (std::exchange(started_, true)) return;
  schedule();
}

void Reconciler::schedule() {
  if (!started_ || queue_.empty() || pass_) return;
  pass_ = loop_.after(Duration::zero(), [this] { pass(pass_limit_); });
}

void Reconciler::flush() {
  pass(queue_.size());
}

void Reconciler::pass(std::size_t limit) {
  pass_.cancel();
  if (!started_ || queue_.empty()) return;
  for (std::size_t left = std::min(limit, queue_.size()); left > 0; --left) {
    const std::string key = std::move(queue_.front());
    queue_.pop_front();
    if (dirty_.erase(key) != 0) run(key);
  }
  schedule();
  if (target_.passed) target_.passed();
}

void Reconciler::run_now(const std::set<std::string>& keys) {
  for (const std::string& key : keys) {
    dirty_.erase(key);
    run(key);
  }
  if (target_.passed) target_.passed();
}

void Reconciler::run(const std::string& key) {
  Result<> result = target_.reconcile(key);
  if (result) {
    failing_.erase(key);
    return;
  }
  ++failures_;
  Failure& failure = failing_[key];
  failure.error = std::move(result).error();
  const Duration wait = backoff_.delay(++failure.count);
  log::warn(name_, "reconcile failed",
            {{"key", key},
             {"error", failure.error},
             {"attempt", failure.count},
             {"retry_ms", std::chrono::duration_cast<std::chrono::milliseconds>(wait).count()}});
  failure.retry = loop_.after(wait, [this, key] {
    if (dirty_.insert(key).second) queue_.push_back(key);
    schedule();
  });
}

std::map<std::string, Error> Reconciler::failing() const {
  std::map<std::string, Error> errors;
  for (const auto& [key, failure] : failing_) errors.emplace(key, failure.error);
  return errors;
}

}  // namespace fairlead
