// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/events.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "agent/base/timestamp.h"

namespace fairlead::kube {
namespace {

constexpr std::size_t kRemembered = 4096;
constexpr std::size_t kWaiting = 1000;
constexpr Duration kLate = std::chrono::seconds(1);
constexpr Duration kPace = std::chrono::milliseconds(50);
constexpr auto kComponent = "kubelet";
constexpr auto kReporter = "fairlead-agent";

std::string namespace_of(const model::EventNote& note) {
  return note.involved.ns.empty() ? "default" : note.involved.ns;
}

std::string events_path(const model::EventNote& note) {
  return fmt::format("/api/v1/namespaces/{}/events", namespace_of(note));
}

prometheus::Counter& dropped(metrics::Registry& registry, const char* reason) {
  return metrics::counter(registry, "fairlead_events_dropped_total", "Events that were not told to the API server.",
                          {{"reason", reason}});
}

}  // namespace

void EventBudget::refill(WallTime now) {
  if (left_ >= kBurst || since_ == WallTime{} || now < since_) since_ = now;
  while (left_ < kBurst && now - since_ >= kRefill) {
    ++left_;
    since_ += kRefill;
  }
}

bool EventBudget::take(WallTime now) {
  refill(now);
  if (left_ == 0) return false;
  --left_;
  return true;
}

bool EventBudget::full(WallTime now) const {
  return left_ + (now - since_) / kRefill >= kBurst;
}

EventWriter::EventWriter(Loop& loop, JsonApi& api, Receiver<model::EventNote> notes, std::string node_name,
                         metrics::Registry& registry)
    : loop_(loop),
      api_(api),
      notes_(std::move(notes)),
      node_name_(std::move(node_name)),
      work_(loop, "event",
            [this](const std::string& key, ApiWork::Done done) {
              step(key, [this, key, done = std::move(done)](Result<> result) {
                done(std::move(result));
                told(key);
              });
            }),
      over_budget_(dropped(registry, "budget")),
      overflow_(dropped(registry, "overflow")),
      refused_(dropped(registry, "refused")) {
  notes_.attach(loop, [this](std::vector<model::EventNote> batch) {
    for (auto& note : batch) take(std::move(note));
    if (!queue_.empty() && !next_) next_ = loop_.after(kLate, [this] { tell_next(); });
  });
}

void EventWriter::tell_next() {
  const std::string key = std::move(queue_.front());
  queue_.pop_front();
  series_.at(key).queued = false;
  work_.mark(key);
  next_ = queue_.empty() ? Subscription() : loop_.after(kPace, [this] { tell_next(); });
}

void EventWriter::take(model::EventNote note) {
  if (note.reason.empty()) return object_gone(note.involved.uid);
  const std::string key = note.key();
  Series& series = count_in(key, std::move(note));
  if (!within_budget(series.note)) {
    over_budget_.Increment();
  } else if (pending() >= kWaiting && !waits(key, series)) {
    overflow_.Increment();
  } else if (!std::exchange(series.queued, true)) {
    queue_.push_back(key);
  }
}

void EventWriter::object_gone(const std::string& uid) {
  budgets_.erase(uid);
  const std::string first = uid + '\n';  // of the keys of its series
  for (auto at = series_.lower_bound(first); at != series_.end() && at->first.starts_with(first);) {
    Series& series = at->second;
    series.ended = waits(at->first, series);
    if (series.ended) {
      ++at;
    } else {
      recent_.erase(series.recent);
      at = series_.erase(at);
    }
  }
}

void EventWriter::told(const std::string& key) {
  const auto at = series_.find(key);
  if (at == series_.end() || !at->second.ended || waits(key, at->second)) return;
  recent_.erase(at->second.recent);
  series_.erase(at);
}

EventWriter::Series& EventWriter::count_in(const std::string& key, model::EventNote note) {
  const auto [at, fresh] = series_.try_emplace(key);
  Series& series = at->second;
  if (!fresh) {
    series.note.merge(std::move(note));
    series.ended = false;
    recent_.splice(recent_.end(), recent_, series.recent);
    return series;
  }
  series.first = note.at;
  series.name = fmt::format("{}.{:x}", note.involved.name,
                            std::chrono::duration_cast<std::chrono::nanoseconds>(note.at.time_since_epoch()).count());
  series.note = std::move(note);
  series.recent = recent_.insert(recent_.end(), key);
  if (series_.size() > kRemembered) {
    // What waits for the server is remembered; there is always more than that.
    const auto oldest =
        std::ranges::find_if_not(recent_, [&](const auto& each) { return waits(each, series_.at(each)); });
    series_.erase(*oldest);
    recent_.erase(oldest);
  }
  return series;
}

bool EventWriter::within_budget(const model::EventNote& note) {
  if (budgets_.size() >= kRemembered && !budgets_.contains(note.involved.uid)) {
    std::erase_if(budgets_, [&](const auto& entry) { return entry.second.full(note.at); });
    if (budgets_.size() >= kRemembered) budgets_.erase(budgets_.begin());
  }
  return budgets_[note.involved.uid].take(note.at);
}

void EventWriter::step(const std::string& key, ApiWork::Done done) {
  const auto at = series_.find(key);  // there as long as it has work to do
  if (at->second.exists) return patch(key, at->second, std::move(done));
  post(key, at->second, std::move(done));
}

// Tells done() of an answer: what the server will never take is dropped.
ApiWork::Done EventWriter::settled(ApiWork::Done done) {
  return [this, done = std::move(done)](Result<> result) {
    if (result || (result.error().code != Code::kDenied && result.error().code != Code::kInvalid &&
                   result.error().code != Code::kNotFound)) {
      return done(std::move(result));
    }
    refused_.Increment();
    done({});
  };
}

void EventWriter::post(const std::string& key, const Series& series, ApiWork::Done done) {
  api_.create(events_path(series.note), event(series), [this, key, done = settled(std::move(done))](Result<Json> made) {
    // It exists: an earlier try had arrived, its answer had not.
    if (!made && made.error().code != Code::kConflict) return done(std::unexpected(std::move(made).error()));
    series_.at(key).exists = true;
    done({});
  });
}

void EventWriter::patch(const std::string& key, const Series& series, ApiWork::Done done) {
  const Json change{{"count", series.note.count}, {"lastTimestamp", format_time(to_timestamp(series.note.at))}};
  api_.patch(events_path(series.note) + "/" + series.name, change,
             [this, key, done = settled(std::move(done))](Result<Json> answer) {
               if (answer) return done({});
               if (answer.error().code != Code::kNotFound) return done(std::unexpected(std::move(answer).error()));
               series_.at(key).exists = false;  // the server forgets Events after an hour
               work_.mark(key);
               done({});
             });
}

Json EventWriter::event(const Series& series) const {
  const model::EventNote& note = series.note;
  Json involved{{"apiVersion", "v1"},
                {"kind", note.kind},
                {"namespace", note.involved.ns},
                {"name", note.involved.name},
                {"uid", note.involved.uid}};
  if (!note.field_path.empty()) involved["fieldPath"] = note.field_path;
  return {{"apiVersion", "v1"},
          {"kind", "Event"},
          {"metadata", {{"name", series.name}, {"namespace", namespace_of(note)}}},
          {"involvedObject", std::move(involved)},
          {"type", note.warning ? "Warning" : "Normal"},
          {"reason", note.reason},
          {"message", note.message},
          {"count", note.count},
          {"firstTimestamp", format_time(to_timestamp(series.first))},
          {"lastTimestamp", format_time(to_timestamp(note.at))},
          {"source", {{"component", kComponent}, {"host", node_name_}}},
          {"reportingComponent", kReporter},
          {"reportingInstance", node_name_}};
}

}  // namespace fairlead::kube
