// SPDX-License-Identifier: Apache-2.0
// PodStatusWriter: pod statuses to the API server: coalesced per pod, sent as a strategic-merge PATCH that carries the
// pod's uid, retried until they are there; nothing is lost over an outage. What another says of a pod's conditions is
// put right: the node controller says that pods are not ready where a node is not heard of for a minute, and leaves it
// to the node to say otherwise. The object of a finished pod is removed, after its last status.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/channel.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/kube/api/api_work.h"
#include "agent/kube/api/json_api.h"
#include "agent/kube/api/object_sink.h"
#include "agent/model/rows.h"

namespace fairlead::kube {

// Body of the PATCH of /status: what `status` does not have is removed, but for the conditions of others.
Json pod_status_patch(const std::string& uid, const k8s::PodStatus& status);

// Whether all that a status says is that the pod is being made, and nothing is in its way.
bool is_being_made(const k8s::PodStatus& status);

// Owner: ApiSource; thread: its loop. One exchange a pod in flight. That a pod is being made is told when it has been
// so for two seconds: most run by then, and this is what those who wait for them want to hear. Memory: the last
// status of each pod until it is finished. Counts: fairlead_pod_status_failures_total.
class PodStatusWriter {
 public:
  // The object that stands for a static pod at the API server, by the static pod's uid; nothing while there is none.
  using MirrorOf = std::function<std::optional<model::ObjectId>(const std::string& uid)>;

  PodStatusWriter(Loop& loop, JsonApi& api, Receiver<model::PodStatusUpdate> updates, MirrorOf mirror_of,
                  metrics::Registry& registry);

  // A sink for the node's pods: all go on to `pods`, once it was seen what they say.
  std::unique_ptr<ObjectSink> watch(std::unique_ptr<ObjectSink> pods);
  // Another object may stand for this static pod now.
  void mirror_changed(const std::string& uid);
  // Pods whose last word has not reached the API server, and why.
  std::size_t pending() const { return work_.pending(); }
  std::map<std::string, Error> failing() const;

 private:
  class Sink;
  struct PodState {
    model::PodStatusUpdate latest;
    Subscription later;    // until `latest` is told; empty: told at once
    std::string told_uid;  // the object that was told `told`; empty: none
    std::shared_ptr<const k8s::PodStatus> told;
    std::uint64_t told_version = 0;  // the object's, from then on
  };
  void saw(const ObjectHead& head, std::string_view object);
  void step(const std::string& uid, ApiWork::Done done);
  void finish(const std::string& uid, const model::ObjectId& object, ApiWork::Done done);
  void gone_or(const Error& error, const model::ObjectId& object, ApiWork::Done done);

  void take(model::PodStatusUpdate update);

  Loop& loop_;
  JsonApi& api_;
  Receiver<model::PodStatusUpdate> updates_;
  MirrorOf mirror_of_;
  ApiWork work_;
  std::map<std::string, PodState> pods_;  // by uid
};

}  // namespace fairlead::kube
