// SPDX-License-Identifier: Apache-2.0
// Pods: the domain that runs this node's pods over a CRI runtime.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/channel.h"
#include "agent/base/local_protocol.h"
#include "agent/base/metrics.h"
#include "agent/base/request.h"
#include "agent/base/worker_pool.h"
#include "agent/cri/runtime.h"
#include "agent/model/rows.h"
#include "agent/pods/keeper.h"
#include "agent/state/table.h"

namespace fairlead::pods {

struct PodsConfig {
  std::string node_name;
  std::vector<IpAddress> node_ips;
  std::string state_dir;
  std::string log_root;
  std::string cgroup_prefix;              // "" or "/name": in front of /kubepods
  std::vector<std::string> cgroup_roots;  // as Cgroups::find_roots() tells
  Allocatable allocatable;                // what the node offers, for the downward API
  DnsSettings dns;
  // ConfigMaps and Secrets come one by one, as they are wanted: one without a row is not known yet. Otherwise it is
  // none once their table is complete.
  bool configs_on_demand = false;
  Duration drain_delay = std::chrono::milliseconds(100);   // from "terminating in the maps" to SIGTERM
  Duration drain_patience = std::chrono::seconds(2);       // how long a deletion waits for the maps
  Duration relist = std::chrono::seconds(1);               // where the runtime tells no events
  Duration relist_with_events = std::chrono::seconds(60);  // the safety net where it does
};

// Owner: Agent. Thread: its loop's; mounts and files of volumes on a pool of its own. Cost: two list calls each
// `relist`, and a few calls for a pod that changed.
//
// At start it looks at every desired pod before it calls LocalPod rows complete, so that no backend is lost because the
// agent was restarted; and once every desired pod is known, what carries our owner label and is not desired is ended.
//
// Counts: kubelet_running_pods, kubelet_running_containers, kubelet_pod_start_duration_seconds,
// fairlead_pod_drain_timeouts_total, fairlead_runtime_list_failures_total.
// Requests: pod.list {} → [pod…], pod.get {namespace, name} → pod, pods.sync → {synced, adopted, missing, failing,
// pods}.
class Pods {
 public:
  struct Deps {
    PodsConfig config;
    state::TableReader<model::Pod> pods;
    state::TableReader<model::ConfigData> config_maps;
    state::TableReader<model::ConfigData> secrets;
    state::TableReader<model::Service> services;
    cri::Runtime& runtime;
    health::Checker& health;
    TableWriter<model::LocalPod> local_pods;
    Receiver<model::Applied> applied;
    Sender<model::PodStatusUpdate> statuses;
    Sender<model::ConfigWant> config_wants;
    Sender<model::EventNote> events;
    Sender<model::StaticPod> static_pods;  // those whose source is not `api_source`
    std::optional<Tokens::Ask> tokens;     // nullopt: nobody gives any
    std::string api_source;                // empty: every pod is static
    Responder<Inspect, Json> requests;
    metrics::Registry& registry;
  };

  Pods(Loop& loop, const Clock& clock, Deps deps);
  // On the loop's thread, or before it runs.
  void start();

 private:
  struct ConfigRows {
    std::map<std::string, std::shared_ptr<const model::ConfigData>> rows;
    bool complete = false;
  };

  void pods_changed(state::Delta<model::Pod> delta);
  void want(const std::shared_ptr<const model::Pod>& row);
  void unwant(const std::string& uid);
  void keep(const model::Pod& row);
  void looked(const std::string& uid);
  void gone(const std::string& uid);
  void config_changed(ConfigRows& rows, state::Delta<model::ConfigData> delta);
  void relist();
  void listed(const std::map<std::string, ListedPod>& pods);
  void end_orphans(const std::map<std::string, ListedPod>& pods);
  void end_orphan(const std::string& uid, const ListedPod& pod);
  // Takes away what an earlier agent made for pods that nobody wants and of which the runtime never heard.
  void end_remains();
  void schedule_relist();
  void complete_when_adopted();
  void count();
  void answer(const Inspect& request, Reply<Json> reply);
  Result<Json> get(const Json& args) const;
  Json sync_state() const;
  void services_changed(state::Delta<model::Service> delta);
  void ask_version();
  void follow_pods();
  void forget_vanished(const std::map<std::string, ListedPod>& pods);
  Result<std::shared_ptr<const model::ConfigData>> find_config(ConfigKind kind, const std::string& key) const;
  Result<Env> services_of(const k8s::Pod& pod) const;
  void tell_static(const model::Pod& row, bool gone) const;

  Loop& loop_;
  const Clock& clock_;
  Deps deps_;
  ConfigRows config_maps_;
  ConfigRows secrets_;
  std::map<std::string, std::shared_ptr<const model::Service>> services_;
  bool services_complete_ = false;
  ConfigUse config_use_;
  Events event_teller_;
  std::string runtime_name_;  // empty: it has not said yet
  WorkerPool pool_{4};
  PodVolumeSetup volumes_;
  FilesOnDisk files_;
  Cgroups cgroups_;
  NodeFacts node_;
  RuntimeReader reader_;
  Prober prober_;
  Readiness readiness_;
  Images images_;
  HostPortAdmission host_ports_;
  WorkerContext worker_context_;
  KeeperContext keeper_context_;
  prometheus::Gauge& running_pods_;
  prometheus::Gauge& running_containers_;
  prometheus::Counter& list_failures_;

  std::map<std::string, bool> rows_;  // desired pods by uid → their end was told: what comes of it is its echo
  std::map<std::string, std::unique_ptr<Keeper>> keepers_;               // by uid
  std::map<std::string, std::shared_ptr<const model::Pod>> successors_;  // by uid: wait until their namesake is gone
  std::set<std::string> first_looks_;  // uids of the pods that were desired first and have not been looked at
  bool pods_complete_ = false;
  bool adopted_ = false;  // LocalPod rows are complete
  bool listed_once_ = false;
  bool all_kept_ = false;  // each pod that the runtime has is a keeper's: one that comes now is unknown to it
  bool events_ = false;    // the runtime tells them
  std::string trouble_;    // why the runtime does not list, or empty
  Subscription relist_timer_;
  Subscription version_timer_;
};

}  // namespace fairlead::pods
