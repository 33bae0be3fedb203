// SPDX-License-Identifier: Apache-2.0
// Services: the domain that keeps the load balancer's maps at what Services, EndpointSlices and this node's own pods
// say.
#pragma once

#include <atomic>
#include <optional>
#include <set>
#include <string>

#include "agent/base/channel.h"
#include "agent/base/clock.h"
#include "agent/base/local_protocol.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/reconciler.h"
#include "agent/base/request.h"
#include "agent/datapath/load_balancer.h"
#include "agent/model/rows.h"
#include "agent/services/cluster_ip.h"
#include "agent/services/index.h"
#include "agent/state/table.h"

namespace fairlead::services {

// kube-proxy's counters by its names where they mean the same, and our own as fairlead_service_*.
struct ServiceMetrics {
  explicit ServiceMetrics(metrics::Registry& registry);
  prometheus::Histogram& sync_seconds;
  prometheus::Gauge& last_sync;
  prometheus::Counter& service_changes;
  prometheus::Counter& endpoint_changes;
  prometheus::Gauge& services;
  prometheus::Gauge& backends;
  prometheus::Gauge& failing;
  prometheus::Counter& failures;
  prometheus::Counter& repairs;
};

// Owner: Agent. Thread: its loop, except health(). Starts once Services and EndpointSlices are complete and so are
// local pods and the node's labels (or they are late: a runtime that is away must not keep Services from working). What
// it found in the maps and nobody declares it removes after each Service had its turn, and only once host ports are
// known (or late), too. A changed slice costs its Service; a changed pod the Services that list it, which are carried
// out at once, ahead of all else. After each pass it says on `applied` how far LocalPod rows are in the maps.
//
// A host port is a Service of one endpoint: the same machine carries it out.
//
// A Service that is deleted and made anew under its name is a change like any other: one store publishes it, where
// removing it first would refuse connections in between.
class Services {
 public:
  struct Deps {
    state::TableReader<model::Service> services;
    state::TableReader<model::EndpointSlice> slices;
    state::TableReader<model::LocalPod> pods;
    state::TableReader<model::Node> nodes;  // of this node, for its zone and addresses
    state::TableReader<model::HostPort> host_ports;
    datapath::LoadBalancer& balancer;
    Sender<model::Applied> applied;
    metrics::Registry& registry;
    Responder<Inspect, Json> inspect;  // inspect.h, and services.sync (below)
    std::string node;
    std::vector<IpAddress> node_ips{};            // besides those that its Node row names
    Balancing balancing = Balancing::kRandom;     // where a Service asks for none
    std::optional<ClusterIpAllocator> addresses;  // with manifests only: gives ClusterIPs to Services that declare none
    Duration audit_period = std::chrono::minutes(1);
    Duration pods_patience = std::chrono::seconds(5);  // how long to wait for local pods, the node and host ports
  };

  // What /healthz needs to tell.
  struct Health {
    bool synced = false;
    WallTime last_updated;                  // end of the last pass; the epoch before the first
    std::optional<WallTime> pending_since;  // since when something is not in the maps yet
  };

  Services(Loop& loop, const Clock& clock, Deps deps);

  // Any thread.
  Health health() const;

 private:
  void services_changed(const state::Delta<model::Service>& delta);
  void slices_changed(const state::Delta<model::EndpointSlice>& delta);
  void pods_changed(const state::Delta<model::LocalPod>& delta);
  void nodes_changed(const state::Delta<model::Node>& delta);
  void host_ports_changed(const state::Delta<model::HostPort>& delta);
  void mark(const std::string& key);
  void start_when_complete();
  void start();

  Result<> reconcile(const std::string& key);
  Result<> reconcile_host_port(const std::string& key);
  Result<> give_addresses(ServiceState& state);
  Result<> program(ServiceState& state, const ServicePlan& plan);
  using Entries = std::map<std::string, datapath::ServiceEntry>;
  // Makes the maps say `entries`, and no more of `programmed`, which it keeps up to date with how many `backends` they
  // have there.
  Result<> program(std::set<std::string>& programmed, const Entries& entries, std::size_t& backends);
  void warn_unread(ServiceState& state) const;
  void passed();
  void publish_applied();
  void audit();
  // services.sync → {synced, missing: [kind], failing: {key: error}, services, backends, last_updated (Unix seconds),
  // maps: [{map, used, capacity}]}.
  Json sync_state() const;
  std::vector<std::string> missing() const;

  Loop& loop_;
  const Clock& clock_;
  Deps deps_;
  ServiceMetrics metrics_;
  ServiceIndex index_;
  bool services_complete_ = false;
  bool slices_complete_ = false;
  bool pods_complete_ = false;
  bool nodes_complete_ = false;
  bool host_ports_complete_ = false;
  // One host port: what is asked (nullptr: no more), and the names of entries that may be in the maps.
  struct HostPortState {
    std::shared_ptr<const model::HostPort> row;
    std::set<std::string> programmed;
    std::size_t backends = 0;
  };
  std::map<std::string, HostPortState> host_ports_;  // by key
  std::vector<IpAddress> node_ips_;
  Site site_;
  Revision pods_revision_ = 0;
  std::size_t backends_ = 0;  // in the maps, all Services
  std::uint64_t failures_counted_ = 0;
  std::optional<TimePoint> pass_began_;
  Subscription patience_;
  // For health(): nanoseconds since the epoch, 0 for none.
  std::atomic<std::int64_t> last_updated_{0};
  std::atomic<std::int64_t> pending_since_{0};
  std::atomic<bool> synced_{false};
  Reconciler reconciler_;
};

}  // namespace fairlead::services
