// SPDX-License-Identifier: Apache-2.0
// PodGate: where another agent, a stock kubelet, runs this node's pods, an ADD waits here until the Pod object has come
// from the API server: what is decided by it (labels, policy) is known before the pod's first packet.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <string>

#include "agent/base/loop.h"
#include "agent/model/rows.h"
#include "agent/network/attachment.h"
#include "agent/state/table.h"

namespace fairlead::network {

// Owner: Network; thread: its loop's. Cost: a string or two for each pod of this node.
class PodGate {
 public:
  PodGate(Loop& loop, state::TableReader<model::Pod> pods, Duration patience);

  // Begins to follow the table. On the loop's thread, or before it runs.
  void start();

  // Calls `go` at once where the pod of `attachment` is known, else when it comes; with kUnavailable (the runtime tries
  // again later) when it has not come within the patience. A pod is told by its uid, or by its name where the runtime
  // tells no uid.
  using Go = std::move_only_function<void(Result<>)>;
  void pass(const Attachment& attachment, Go go);

 private:
  struct Waiting {
    Attachment attachment;
    Go go;
    Subscription deadline;
  };
  using Place = std::list<Waiting>::iterator;

  bool knows(const Attachment& attachment) const;
  void pods_changed(const state::Delta<model::Pod>& delta);
  void let_go(Place place, Result<> result);

  Loop& loop_;
  state::TableReader<model::Pod> pods_;
  Duration patience_;
  std::map<std::string, std::string> names_;  // uid → "namespace/name"
  std::list<Waiting> waiting_;
};

}  // namespace fairlead::network
