// SPDX-License-Identifier: Apache-2.0
// SliceController: what the control plane's EndpointSlice controller does, for a node that lives on manifests: slices
// from Services with a selector and from the pods that this node runs.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/base/loop.h"
#include "agent/base/table_writer.h"
#include "agent/model/rows.h"
#include "agent/state/table.h"

namespace fairlead::services {

// True where every label of a non-empty `selector` is among `labels`.
bool selects(const model::Labels& selector, const model::Labels& labels);

// Slices of one Service by key ("namespace/name"): one a family and set of resolved port numbers (a named target port
// may mean different numbers in different pods), named after those, so that a slice keeps its name over changes. `pods`
// are in the Service's namespace; the selector is applied here. `configured` families serve a Service that names none.
// With a trafficDistribution, ready endpoints have hints for their zone and node. Pure.
std::map<std::string, model::EndpointSlice> compute_slices(
    const model::Service& service, const std::vector<std::shared_ptr<const model::LocalPod>>& pods,
    const std::string& node, const std::string& zone, const std::vector<Family>& configured);

// Owner: Agent. Thread: the services loop. Cost: a pod's change costs the Services of its namespace a selector match
// each, and only those that select the pod, before or after, are computed anew; only rows that differ are written.
class SliceController {
 public:
  struct Deps {
    state::TableReader<model::Service> services;
    state::TableReader<model::LocalPod> pods;
    TableWriter<model::EndpointSlice> slices;  // source "local"; completed once both tables are
    std::string node;
    std::string zone;              // the node's, or empty
    std::vector<Family> families;  // of the service CIDRs, in order
  };

  SliceController(Loop& loop, Deps deps);

 private:
  // One namespace's rows.
  struct Namespace {
    std::map<std::string, std::shared_ptr<const model::Service>> services;  // by key
    std::map<std::string, std::shared_ptr<const model::LocalPod>> pods;     // by uid
  };

  void services_changed(const state::Delta<model::Service>& delta);
  void pods_changed(const state::Delta<model::LocalPod>& delta);
  void touch(const Namespace& ns, const std::shared_ptr<const model::LocalPod>& pod,
             std::set<std::string>& touched) const;
  void recompute(const std::string& service_key);
  void write(const std::string& service_key, std::map<std::string, model::EndpointSlice> slices);
  void complete_when_ready();

  Deps deps_;
  std::map<std::string, Namespace> namespaces_;
  std::map<std::string, std::map<std::string, model::EndpointSlice>> written_;  // service key → slice key → row
  bool services_complete_ = false;
  bool pods_complete_ = false;
  bool completed_ = false;
};

}  // namespace fairlead::services
