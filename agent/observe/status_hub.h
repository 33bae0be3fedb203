// SPDX-License-Identifier: Apache-2.0
// StatusHub: asks every module how it is and tells the world: fairleadctl status, health endpoints, readiness, metrics.
//
// Two words are kept apart. Serving (READY=1, /readyz): what was there is adopted and every module is at work; an API
// server that is away, or a kind that it does not give, changes nothing about it. Synced (fairleadctl status): every
// list is complete, up to date and in the maps.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/request.h"
#include "agent/observe/status.h"

namespace fairlead::observe {

// A module that has a say in whether the agent is ready: asked by `op`, answers as status.h says.
struct Component {
  std::string op;
  Caller<Inspect, Json> module;
};

// Owner: Agent. Thread: its loop's. Cost: one small request to each module ten times a second until the agent
// serves, then each five seconds and for each question. Counts: fairlead_ready, fairlead_component_synced{component},
// fairlead_build_info{version}, process_resident_memory_bytes, process_open_fds, process_start_time_seconds.
//
// Requests (op → result):
//   status         {ready (synced), serving, missing: [text], failing: {object: reason}, maps: [{map, used, capacity}],
//   refused: [object],
//                  components: {module: answer}, node, version}
//   config.get     the effective configuration        version   {version, compiler}
//   health.ready   {healthy, missing, failing}: serving, now
//   health.live    {healthy, missing}: every module answers
//   health.proxy   {healthy, lastUpdated, currentTime, nodeEligible}, as kube-proxy's /healthz: what is known of
//                  Services was in the maps less than two minutes ago
class StatusHub {
 public:
  struct Deps {
    std::map<std::string, Component> components;  // by name
    Responder<Inspect, Json> inspect;
    metrics::Registry& registry;
    std::string node;
    Json configuration;
    std::function<void()> on_serving;             // once, on the hub's loop, when the agent serves for the first time
    Duration patience = std::chrono::seconds(2);  // with each module
  };

  StatusHub(Loop& loop, const Clock& clock, Deps deps);
  // Begins to look by itself.
  void start();

 private:
  struct Round;  // one question to all modules
  using Done = std::function<void(const Status&)>;

  void answer(const Inspect& request, Reply<Json> reply);
  void collect(Done done);
  void note(const Status& status);
  void look();
  void measure_process();
  Json proxy_health() const;

  Loop& loop_;
  const Clock& clock_;
  Deps deps_;
  prometheus::Gauge& ready_;
  prometheus::Gauge& memory_;
  prometheus::Gauge& descriptors_;
  bool was_serving_ = false;
  std::optional<WallTime> last_synced_;
  Subscription next_look_;
  std::shared_ptr<StatusHub*> self_;  // for answers that come after our end
};

}  // namespace fairlead::observe
