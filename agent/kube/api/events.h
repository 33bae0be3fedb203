// SPDX-License-Identifier: Apache-2.0
// EventWriter: what happened to pods and to the node, as Events for `kubectl describe`.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <string>

#include "agent/base/channel.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/kube/api/api_work.h"
#include "agent/kube/api/json_api.h"
#include "agent/model/rows.h"

namespace fairlead::kube {

// How many events an object may cause: a few at once, then one now and then. Pure.
class EventBudget {
 public:
  // Whether one more is in the budget at `now`.
  bool take(WallTime now);
  bool full(WallTime now) const;  // untouched, or refilled since

 private:
  void refill(WallTime now);
  unsigned left_ = kBurst;
  WallTime since_{};  // of the last refill
  static constexpr unsigned kBurst = 25;
  static constexpr auto kRefill = std::chrono::minutes(5);
};

// Owner: ApiSource; thread: its loop. Never holds anybody up. Equal notes are one Event, counted by PATCH, as kubelet
// does; source.component is "kubelet", which tools look for, reportingComponent is "fairlead-agent". They are told a
// second late, 20 a second: what counts has the API server's time, and the node's, before them. An object's Events are
// remembered until it is gone and they are told. Bounds: 4096 Events and as many objects are remembered, the least
// recent forgotten; 1000 may wait for the API server. What is beyond that or beyond an object's budget, and what the
// server refuses, is dropped and counted. Counts: fairlead_events_dropped_total{reason}.
class EventWriter {
 public:
  EventWriter(Loop& loop, JsonApi& api, Receiver<model::EventNote> notes, std::string node_name,
              metrics::Registry& registry);

  std::size_t pending() const { return queue_.size() + work_.pending(); }
  std::size_t remembered() const { return series_.size(); }

 private:
  struct Series {
    model::EventNote note;  // its count is that of all
    WallTime first;
    std::string name;  // of the Event
    bool exists = false;
    bool queued = false;
    bool ended = false;  // its object is gone: it is forgotten once it is told
    std::list<std::string>::iterator recent;
  };
  void take(model::EventNote note);
  void object_gone(const std::string& uid);
  bool waits(const std::string& key, const Series& series) const { return series.queued || work_.pending(key); }
  void told(const std::string& key);
  void tell_next();
  Series& count_in(const std::string& key, model::EventNote note);
  bool within_budget(const model::EventNote& note);
  void step(const std::string& key, ApiWork::Done done);
  ApiWork::Done settled(ApiWork::Done done);
  void post(const std::string& key, const Series& series, ApiWork::Done done);
  void patch(const std::string& key, const Series& series, ApiWork::Done done);
  Json event(const Series& series) const;

  Loop& loop_;
  JsonApi& api_;
  Receiver<model::EventNote> notes_;
  std::string node_name_;
  ApiWork work_;
  std::deque<std::string> queue_;               // keys of series_ that have yet to become work
  Subscription next_;                           // of queue_
  std::map<std::string, Series> series_;        // by EventNote::key()
  std::list<std::string> recent_;               // keys of series_, the least recent first
  std::map<std::string, EventBudget> budgets_;  // by the object's uid
  prometheus::Counter& over_budget_;
  prometheus::Counter& overflow_;
  prometheus::Counter& refused_;
};

}  // namespace fairlead::kube
