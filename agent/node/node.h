// SPDX-License-Identifier: Apache-2.0
// NodeReporter: this node's word to the API server: it registers the Node, keeps its labels and status true, and renews
// its Lease.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/one_at_a_time.h"
#include "agent/base/reconciler.h"
#include "agent/cri/runtime.h"
#include "agent/kube/api/json_api.h"
#include "agent/model/rows.h"
#include "agent/node/conditions.h"
#include "agent/node/objects.h"
#include "agent/state/table.h"

namespace fairlead::node {

struct NodeConfig {
  Duration status_period = std::chrono::seconds(10);  // nodeStatusUpdateFrequency: how often health is looked at
  Duration report_period = std::chrono::minutes(5);   // nodeStatusReportFrequency: reported at least this often
  Duration lease_period = std::chrono::seconds(10);
  bool needs_pod_cidrs = true;  // not ready before the Node object names ranges for pods
};

// Owner: Agent. Thread: the API edge's loop (`api` lives there). Two runtime calls and one Lease PUT each period;
// while the node is not ready, runtime calls each half second.
class NodeReporter {
 public:
  struct Deps {
    kube::JsonApi& api;
    cri::Runtime& runtime;
    state::TableReader<model::Node> node;  // our own, as the API server has it
    metrics::Registry& registry;
    Identity identity;
    MachineFacts facts;
    std::function<Pressures()> pressures;  // measures now
    NodeConfig config;
  };

  NodeReporter(Loop& loop, const Clock& clock, Deps deps);
  void start();

 private:
  void node_changed(const state::Delta<model::Node>& delta);
  void learn_runtime();
  void register_node();
  void registered(Result<Json> node);
  void put_labels(const Json& node);
  // Asks the runtime how it is and what images it has, then reports. Reports that overtake each other would leave the
  // server with the older one.
  void look();
  void report(Health health);
  void looked();
  void renew_lease();
  void put_lease(bool exists);
  void failed(const char* what, const Error& error);
  std::string node_path() const { return "/api/v1/nodes/" + deps_.identity.name; }
  std::string leases_path() const { return "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"; }

  Loop& loop_;
  const Clock& clock_;
  Deps deps_;
  prometheus::Counter& failures_;
  RuntimeFacts runtime_;
  bool has_pod_cidrs_ = false;
  std::string uid_;                    // empty: not registered
  std::vector<Condition> conditions_;  // as last told
  Json reported_;                      // status as last told, less conditions
  TimePoint reported_at_{};
  OneAtATime looks_;  // each to the end of its report
  std::string lease_version_;
  Backoff backoff_{.first = std::chrono::milliseconds(200), .limit = std::chrono::seconds(7)};
  unsigned attempts_ = 0;
  Subscription retry_, status_timer_, lease_timer_, soon_;
};

// What a runtime's Status says about the node; pure.
Health health_of(const Result<cri::api::StatusResponse>& status);
// What it says of its handlers and features, into `facts`; pure.
void read_runtime(const cri::api::StatusResponse& status, RuntimeFacts& facts);
// status.images: the 50 largest, at most five names each, as kubelet reports them; pure.
Json images_of(const cri::api::ListImagesResponse& images);

}  // namespace fairlead::node
