// SPDX-License-Identifier: Apache-2.0
// Reconciler: the scheduling that every target of desired state shares: which keys are dirty, when a failed one is
// tried again, whether all is in sync, when to audit. What "reconcile" means is the target's: a map write, a
// transaction, a container's life.
#pragma once

#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/base/result.h"

namespace fairlead {

// Exponential back-off, pure: the delay before attempt n+1 after n failures in a row.
struct Backoff {
  Duration first = std::chrono::milliseconds(100);
  Duration limit = std::chrono::seconds(30);
  Duration delay(unsigned failures) const {
    Duration wait = first;
    for (unsigned i = 1; i < failures && wait < limit; ++i) wait *= 2;
    return wait < limit ? wait : limit;
  }
};

// Owner and thread: a domain on its loop. Cost: O(log keys) a mark. Keys are reconciled in the order of their marks.
class Reconciler {
 public:
  struct Target {
    // Makes actual match desired for one key. Called on the loop; must not block on a peer.
    std::function<Result<>(const std::string& key)> reconcile;
    // Called after each pass that did something, with the keys that are still failing.
    std::function<void()> passed;
    // Reads actual state back and marks what differs; called each `audit_period`, or never where empty.
    std::function<void()> audit;
  };

  // `name` is the module's name in logs.
  Reconciler(Loop& loop, std::string name, Target target, Backoff backoff = {}, Duration audit_period = {});

  // The key's desired state changed: reconcile it soon, and forget its back-off.
  void mark(const std::string& key);
  // Nothing is done before start(): a domain starts once the lists that it needs are complete.
  void start();
  // Reconciles all that is due now, at once, on the calling (loop's) thread.
  void flush();
  // Reconciles these keys at once, ahead of all that is due, and ends with passed(). Only after start().
  void run_now(const std::set<std::string>& keys);
  // At most so many keys a pass from now on, so that the loop serves other work in between.
  void limit_pass(std::size_t keys) { pass_limit_ = keys; }

  bool started() const { return started_; }
  bool synced() const { return started_ && dirty_.empty() && failing_.empty(); }
  // Keys whose last attempt failed → that error.
  std::map<std::string, Error> failing() const;
  std::uint64_t failures() const { return failures_; }

 private:
  struct Failure {
    Error error;
    unsigned count = 0;
    Subscription retry;
  };
  void schedule();
  void pass(std::size_t limit);
  void run(const std::string& key);

  Loop& loop_;
  std::string name_;
  Target target_;
  Backoff backoff_;
  bool started_ = false;
  std::size_t pass_limit_ = std::numeric_limits<std::size_t>::max();
  std::deque<std::string> queue_;  // keys of dirty_, in order; one that is dirty no more was run meanwhile
  std::set<std::string> dirty_;
  std::map<std::string, Failure> failing_;
  std::uint64_t failures_ = 0;
  Subscription pass_;
  Subscription audit_;
};

}  // namespace fairlead
