// SPDX-License-Identifier: Apache-2.0
// Keeper: one pod from the moment it is desired, or found, to the moment nothing of it is left: looks at the runtime,
// plans, lets its worker act, and tells what is so.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/channel.h"
#include "agent/base/local_protocol.h"
#include "agent/base/one_at_a_time.h"
#include "agent/base/table_writer.h"
#include "agent/model/rows.h"
#include "agent/pods/host_ports.h"
#include "agent/pods/pod_volumes.h"
#include "agent/pods/probes/prober.h"
#include "agent/pods/readiness.h"
#include "agent/pods/runtime_reader.h"
#include "agent/pods/worker.h"

namespace fairlead::pods {

// What all keepers share. Owner: Pods.
struct KeeperContext {
  WorkerContext& worker;
  RuntimeReader& reader;
  Prober& prober;
  Readiness& readiness;
  HostPortAdmission& host_ports;
  TableWriter<model::LocalPod> local_pods;
  Sender<model::PodStatusUpdate> statuses;
  const std::string& runtime_name;  // as the runtime says, for container ids
  Duration drain_delay;             // from "terminating in the maps" to SIGTERM
  Duration drain_patience;          // how long a deletion waits for the maps
  prometheus::Counter& drain_timeouts;
  prometheus::Histogram& start_seconds;
};

// Owner and thread: Pods, its loop. At most one look at the runtime and one action of the plan at a time.
class Keeper {
 public:
  struct Notices {
    std::function<void()> looked;  // a look at the runtime is through
    std::function<void()> gone;    // the pod is over; the keeper may be destroyed, not within the call
  };

  // A pod that is to run. `unknown`: to the runtime; there is nothing to look at.
  Keeper(KeeperContext& context, const model::Pod& desired, bool unknown, Notices notices);
  // What an earlier agent left and nobody wants: to be ended within its own grace.
  Keeper(KeeperContext& context, const std::string& uid, const ListedPod& orphan, Notices notices);
  ~Keeper();

  // Whether this keeper can do what the row asks for: there is no way back from an end, and an orphan has no status.
  bool follows(const model::Pod& row) const { return row.deletion_grace_s ? !orphan_ : !ending(); }
  // The desired row changed: its object, or that it is to end.
  void desire(const model::Pod& desired);
  // The row is gone: end it within `grace_s`, or what the pod asks for.
  void end(std::optional<std::int64_t> grace_s = {});
  // An event of the runtime showed a sandbox of the pod, and what is in it, so; looks where that is news.
  void told(PodRuntimeView sandbox);
  // A list of all pods showed this one so; looks where that is news.
  void listed(const PodRuntimeView* view);
  // The services domain has LocalPod rows up to `revision` in the maps.
  void applied(Revision revision);
  // A ConfigMap or Secret came that volumes or containers may have waited for.
  void retry_now();

  const model::ObjectId& id() const { return id_; }
  const std::string& source() const { return source_; }
  const k8s::Pod& pod() const { return worker_.pod(); }
  bool ending() const { return history().ending_grace_s.has_value(); }
  // The runtime has something of the pod: once it is gone, what it does not remove.
  bool in_runtime() const { return !view_.sandboxes.empty() || !view_.containers.empty(); }
  bool has_volumes() const { return history().volumes_ready; }
  unsigned running_containers() const;
  Json summary() const;  // a row of pod.list
  Json details() const;  // the whole of pod.get

 private:
  PodHistory& history() { return worker_.history(); }
  const PodHistory& history() const { return const_cast<Worker&>(worker_).history(); }
  // Something has changed in the runtime.
  void look(const Change& change = {});
  void looked(Result<PodRuntimeView> view);
  void heed_news();
  void forget_all_but(const PodRuntimeView& view);
  void refuse(const Failure& why);
  void step();
  bool admitted();
  std::optional<WallTime> deadline() const;
  void act();
  bool drained();
  void probe();
  void probed(const ProbeResult& result);
  void tell();
  void tell_of_back_off(const k8s::PodStatus& status);
  model::LocalPod local_pod(const k8s::PodStatus& status) const;
  std::vector<IpAddress> ips() const;
  void read_messages();
  void wake_at(WallTime time);
  void finish();

  KeeperContext& context_;
  model::ObjectId id_;
  std::string source_;
  bool orphan_ = false;
  Notices notices_;
  Worker worker_;
  PodRuntimeView view_;
  bool seen_ = false;  // view_ holds a look
  OneAtATime looks_;
  Change looking_for_;                 // while a look goes on
  std::uint64_t look_number_ = 0;      // the last one's; the answer to another is not waited for any more
  PodRuntimeView news_;                // what an event told last, and no look since has covered
  unsigned blind_looks_ = 0;           // that failed, in a row
  std::map<std::string, bool> ready_;  // container id → its readiness probe's word
  k8s::PodStatus status_;
  std::optional<model::LocalPod> row_;
  Revision row_revision_ = 0;
  Revision applied_ = 0;
  std::optional<TimePoint> drain_until_;                        // SIGTERM may go from here on
  std::optional<TimePoint> drain_patience_;                     // the maps are waited for until here
  std::optional<TimePoint> wanted_since_;                       // until all containers ran for the first time
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // a look that ends after us finds it empty
  Subscription timer_;
  Subscription drain_timer_;
  Subscription look_timer_;
};

}  // namespace fairlead::pods
