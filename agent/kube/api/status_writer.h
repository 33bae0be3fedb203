// SPDX-License-Identifier: Apache-2.0
// PodStatusWriter: pod statuses to the API server: coalesced per pod, sent as a strategic-merge PATCH that carries the
// pod's uid, retried until they are there; nothing is lost over an outage.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "agent/base/channel.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/reconciler.h"
#include "agent/kube/api/json_api.h"
#include "agent/model/rows.h"

namespace fairlead::kube {

// Owner: the API edge; thread: its loop. One exchange a pod in flight; memory: the last status of each pod not yet
// told.
class PodStatusWriter {
 public:
  // Statuses of other sources than `source` are not its business.
  PodStatusWriter(Loop& loop, JsonApi& api, Receiver<model::PodStatusUpdate> updates, std::string source,
                  metrics::Registry& registry);

  // Pods whose last word has not reached the API server.
  std::size_t pending() const { return pods_.size(); }

 private:
  struct PodState {
    model::PodStatusUpdate latest;
    bool in_flight = false;
    bool fresh = false;  // `latest` came while an exchange was in flight
    unsigned failures = 0;
    Subscription retry;
  };
  void take(model::PodStatusUpdate update);
  void send(const std::string& uid);
  void answered(const std::string& uid, const Result<Json>& answer);

  Loop& loop_;
  JsonApi& api_;
  Receiver<model::PodStatusUpdate> updates_;
  std::string source_;
  prometheus::Counter& failures_;
  Backoff backoff_{.first = std::chrono::milliseconds(200), .limit = std::chrono::seconds(20)};
  std::map<std::string, PodState> pods_;
};

}  // namespace fairlead::kube
