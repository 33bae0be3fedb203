// SPDX-License-Identifier: Apache-2.0
// MirrorPods: for each static pod an object at the API server that shows it, owned by the Node; made again when
// somebody deletes it or it shows another pod, removed when its pod is gone.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/channel.h"
#include "agent/base/loop.h"
#include "agent/kube/api/api_work.h"
#include "agent/kube/api/json_api.h"
#include "agent/kube/api/object_sink.h"
#include "agent/model/rows.h"

namespace fairlead::kube {

// The object to be made for `pod` on the Node {node_name, node_uid}; its hash is the static pod's uid.
Json mirror_pod(const k8s::Pod& pod, const std::string& node_name, const std::string& node_uid);

// Owner: ApiSource; thread: its loop. Which mirrors there are is only learnt from the pod watch, through the sink that
// sort_out() makes; so nothing is made or removed before the first list of pods, and no mirror without a static pod is
// removed before all of those were named.
class MirrorPods {
 public:
  struct Deps {
    std::string node_name;
    Receiver<model::StaticPod> pods;
    std::function<void(const std::string& uid)> changed;  // another mirror, or the first, stands for this static pod
  };

  MirrorPods(Loop& loop, JsonApi& api, Deps deps);

  // A sink for the node's pods: mirrors stay here, all others go on to `pods`.
  std::unique_ptr<ObjectSink> sort_out(std::unique_ptr<ObjectSink> pods);
  // The mirror that stands for a static pod now.
  std::optional<model::ObjectId> mirror_of(const std::string& static_uid) const;
  // "namespace/name" → why its mirror is not as it should be.
  std::map<std::string, Error> failing() const { return work_.failing(); }

 private:
  class Sink;
  struct Mirror {
    model::ObjectId id;
    std::string hash;
    bool deleting = false;
  };
  using Mirrors = std::map<std::string, Mirror>;  // by "namespace/name"

  void take(model::StaticPod pod);
  void saw(Mirror mirror);
  void lost(const ObjectHead& head);
  void listed(Mirrors mirrors);
  void step(const std::string& key, ApiWork::Done done);
  void create(const k8s::Pod& pod, ApiWork::Done done);
  void learn_node(const std::string& key, ApiWork::Done done);

  JsonApi& api_;
  Deps deps_;
  ApiWork work_;
  std::map<std::string, std::vector<model::StaticPod>> pods_;  // by name; the first is shown, others wait for its end
  Mirrors mirrors_;
  bool all_named_ = false;
  bool listed_ = false;
  std::string node_uid_;
};

}  // namespace fairlead::kube
