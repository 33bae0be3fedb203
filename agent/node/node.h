// SPDX-License-Identifier: Apache-2.0
// NodeReporter: this node's word to the API server: it registers the Node, keeps its status and Ready condition true,
// and renews its Lease.
#pragma once

#include <optional>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/reconciler.h"
#include "agent/cri/runtime.h"
#include "agent/kube/api/json_api.h"
#include "agent/node/objects.h"

namespace fairlead::node {

struct NodeConfig {
  Duration status_period = std::chrono::seconds(10);  // nodeStatusUpdateFrequency: how often health is looked at
  Duration report_period = std::chrono::minutes(5);   // nodeStatusReportFrequency: reported at least this often
  Duration lease_period = std::chrono::seconds(10);
};

// Owner: main.cc. Thread: the API edge's loop (`api` lives there). One runtime Status call and one Lease PUT each
// period.
class NodeReporter {
 public:
  struct Deps {
    kube::JsonApi& api;
    cri::Runtime& runtime;
    metrics::Registry& registry;
    Identity identity;
    MachineFacts facts;
    NodeConfig config;
  };

  NodeReporter(Loop& loop, const Clock& clock, Deps deps);
  void start();

 private:
  void learn_runtime();
  void register_node();
  void registered(Result<Json> node);
  void look();  // asks the runtime how it is, then reports
  void report(const Health& health);
  void renew_lease();
  void put_lease(bool exists);
  std::string node_path() const { return "/api/v1/nodes/" + deps_.identity.name; }
  std::string leases_path() const { return "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"; }

  Loop& loop_;
  const Clock& clock_;
  Deps deps_;
  prometheus::Counter& failures_;
  std::string uid_;
  std::optional<Health> reported_;
  TimePoint reported_at_{};
  WallTime ready_since_{};
  std::string lease_version_;
  Backoff backoff_{.first = std::chrono::milliseconds(200), .limit = std::chrono::seconds(7)};
  unsigned attempts_ = 0;
  Subscription retry_, status_timer_, lease_timer_;
};

// What a runtime's Status says about the node; pure.
Health health_of(const Result<cri::api::StatusResponse>& status);

}  // namespace fairlead::node
