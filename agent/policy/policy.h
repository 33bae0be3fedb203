// SPDX-License-Identifier: Apache-2.0
// Policy: the domain that keeps the policy maps at what NetworkPolicies, namespaces and pods say, and tells which rules
// hold for each pod of this node.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/local_protocol.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/reconciler.h"
#include "agent/base/request.h"
#include "agent/base/table_writer.h"
#include "agent/datapath/policy_maps.h"
#include "agent/model/rows.h"
#include "agent/policy/desired.h"
#include "agent/policy/programmer.h"
#include "agent/state/table.h"

namespace fairlead::policy {

struct PolicyMetrics {
  explicit PolicyMetrics(metrics::Registry& registry);
  prometheus::Histogram& sync_seconds;
  prometheus::Gauge& policies;
  prometheus::Gauge& isolated_pods;
  prometheus::Gauge& rule_sets;
  prometheus::Gauge& identities;
  prometheus::Gauge& failing;
  prometheus::Counter& failures;
  prometheus::Counter& repairs;
};

// Owner: Agent. Thread: its loop's. Nothing is decided before policies, namespaces, peers, this node's pods and its
// endpoints are all complete: until then the maps and the bindings of pods stay as they are, and new pods wait.
//
// Of a change first rule sets, CIDRs and addresses are written, then the rows of pods. A row's revision grows where
// something that was allowed may be denied now. What does not fit keeps the old rules in force, is told by policy.sync,
// and is tried again. Counts: fairlead_policy_*.
//
// Requests: inspect.h, and policy.sync → {synced, missing: [kind], failing: {object: error}, policies, isolated_pods,
// rule_sets, identities, cidrs}.
class Policy {
 public:
  struct Deps {
    std::string node;
    state::TableReader<model::NetworkPolicy> policies;
    state::TableReader<model::Namespace> namespaces;
    state::TableReader<model::PeerPod> peers;
    state::TableReader<model::Pod> pods;               // of this node
    state::TableReader<model::ServedNetns> endpoints;  // of this node
    datapath::PolicyMaps& maps;
    TableWriter<model::PodPolicy> pod_policies;
    metrics::Registry& registry;
    Responder<Inspect, Json> inspect;
    Duration grace = std::chrono::seconds(2);  // between the last use of a rule set or an identity and its end
    Duration audit_period = std::chrono::minutes(1);
  };

  Policy(Loop& loop, const Clock& clock, Deps deps);

 private:
  template <class Row>
  void follow(state::TableReader<Row>& reader, const char* kind, void (Policy::*take)(const state::Change<Row>&));
  void policy_changed(const state::Change<model::NetworkPolicy>& change);
  void namespace_changed(const state::Change<model::Namespace>& change);
  void peer_changed(const state::Change<model::PeerPod>& change);
  void pod_changed(const state::Change<model::Pod>& change);
  void endpoint_changed(const state::Change<model::ServedNetns>& change);
  void start_when_complete();
  void mark_changes();

  Result<> reconcile(const std::string& key);
  Result<> reconcile_pod(const std::string& uid);
  void tell(const model::PodPolicy& row);
  void judge_again();
  void passed();
  void sweep();
  void audit();
  Json sync_state() const;
  std::string object_of(const std::string& key) const;

  Loop& loop_;
  const Clock& clock_;
  Deps deps_;
  PolicyMetrics metrics_;
  Desired desired_;
  Programmer programmer_;
  std::set<std::string> incomplete_;
  Result<> read_;                                 // the maps at the start
  std::map<std::string, model::PodPolicy> told_;  // by uid
  std::set<std::string> again_;                   // uids whose open connections are to be judged again
  std::optional<TimePoint> pass_began_;
  std::uint64_t failures_counted_ = 0;
  Subscription sweep_;
  Subscription retry_;
  Reconciler reconciler_;
};

}  // namespace fairlead::policy
