// SPDX-License-Identifier: Apache-2.0
// ApiWork: what there is to say to the API server, by key: one exchange a key at a time, again where news came
// meanwhile, with jittered back-off until it is said.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "agent/base/loop.h"
#include "agent/base/one_at_a_time.h"
#include "agent/base/reconciler.h"
#include "agent/base/result.h"

namespace fairlead::kube {

// Owner: a writer of the API edge; thread: its loop. Memory: an entry for each key with work under way or failing.
class ApiWork {
 public:
  using Done = std::function<void(Result<>)>;
  // Looks what the key needs now and does it; `done` is called once, also where there is nothing to do.
  using Step = std::function<void(const std::string& key, Done done)>;

  // `what` names the work in logs: "pod status".
  ApiWork(Loop& loop, std::string what, Step step, std::function<void()> failed = {})
      : loop_(loop), what_(std::move(what)), step_(std::move(step)), failed_(std::move(failed)) {}

  // There is news of the key; its back-off is over.
  void mark(const std::string& key);
  std::size_t pending() const { return entries_.size(); }
  bool pending(const std::string& key) const { return entries_.contains(key); }
  // Key → why its last attempt failed.
  std::map<std::string, Error> failing() const;

 private:
  struct Entry {
    OneAtATime exchange;
    unsigned failures = 0;
    Error error;
    Subscription retry;
  };
  void ended(const std::string& key, Result<> result);

  Loop& loop_;
  std::string what_;
  Step step_;
  std::function<void()> failed_;  // called at each failure
  Backoff backoff_{.first = std::chrono::milliseconds(200), .limit = std::chrono::seconds(20)};
  std::map<std::string, Entry> entries_;
};

// Spreads retries of many nodes: between half of `wait` and all of it.
Duration jittered(Duration wait);

}  // namespace fairlead::kube
