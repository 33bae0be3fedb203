// SPDX-License-Identifier: Apache-2.0
// PodGate: an ADD waits here until a table has told of its pod, so that what is decided by that (labels, policy) is in
// force before the pod's first packet.
#pragma once

#include <algorithm>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>

#include "agent/base/loop.h"
#include "agent/model/rows.h"
#include "agent/network/attachment.h"
#include "agent/state/table.h"

namespace fairlead::network {

inline const model::ObjectId& pod_of(const model::Pod& row) {
  return row.id;
}
inline const model::ObjectId& pod_of(const model::PodPolicy& row) {
  return row.pod;
}

// A pod is told by its uid, or by its name where the runtime tells no uid.
inline bool is_for(const Attachment& attachment, const model::ObjectId& pod) {
  return attachment.pod_uid.empty() ? attachment.pod() == pod.key() : attachment.pod_uid == pod.uid;
}

// Owner: Network; thread: its loop's. Cost: a pointer for each pod of this node. Row: model::Pod, from the API server
// where a stock kubelet runs this node's pods, or model::PodPolicy.
template <class Row>
class PodGate {
 public:
  using Changed = std::function<void(const Row&)>;

  // `missing` says what has not happened where the patience ends: "the API server has not told of it". `changed` is
  // called for each row that is new or another, before those go who wait for it.
  PodGate(Loop& loop, state::TableReader<Row> rows, Duration patience, std::string missing, Changed changed = {})
      : loop_(loop),
        reader_(std::move(rows)),
        patience_(patience),
        missing_(std::move(missing)),
        changed_(std::move(changed)) {}

  // Begins to follow the table. On the loop's thread, or before it runs.
  void start() {
    reader_.attach(loop_, [this](const state::Delta<Row>& delta) { rows_changed(delta); });
  }

  // The row of the attachment's pod, or nullptr.
  const Row* find(const Attachment& attachment) const {
    if (!attachment.pod_uid.empty()) {
      const auto at = rows_.find(attachment.pod_uid);
      return at == rows_.end() ? nullptr : at->second.get();
    }
    const auto at =
        std::ranges::find_if(rows_, [&](const auto& row) { return is_for(attachment, pod_of(*row.second)); });
    return at == rows_.end() ? nullptr : at->second.get();
  }

  // Calls `go` at once where the pod of `attachment` is known, else when it comes; with kUnavailable (the runtime tries
  // again later) when it has not come within the patience.
  using Go = std::move_only_function<void(Result<>)>;
  void pass(const Attachment& attachment, Go go) {
    if (find(attachment) != nullptr) return go({});
    const Place place = waiting_.insert(waiting_.end(), {attachment, std::move(go), {}});
    place->deadline = loop_.after(patience_, [this, place] {
      let_go(place,
             fail(Code::kUnavailable, "pod {}: {} (uid \"{}\") within {} ms", place->attachment.pod(), missing_,
                  place->attachment.pod_uid, std::chrono::duration_cast<std::chrono::milliseconds>(patience_).count()));
    });
  }

 private:
  struct Waiting {
    Attachment attachment;
    Go go;
    Subscription deadline;
  };
  using Place = typename std::list<Waiting>::iterator;

  void rows_changed(const state::Delta<Row>& delta) {
    for (const auto& change : delta.changes) {
      if (change.after == nullptr) {
        rows_.erase(change.key);
        continue;
      }
      rows_[change.key] = change.after;
      if (changed_) changed_(*change.after);
    }
    for (auto at = waiting_.begin(); at != waiting_.end();) {
      const auto place = at++;
      if (find(place->attachment) != nullptr) let_go(place, {});
    }
  }

  void let_go(Place place, Result<> result) {
    Go go = std::move(place->go);
    waiting_.erase(place);
    go(std::move(result));
  }

  Loop& loop_;
  state::TableReader<Row> reader_;
  Duration patience_;
  std::string missing_;
  Changed changed_;
  std::map<std::string, std::shared_ptr<const Row>> rows_;  // by uid
  std::list<Waiting> waiting_;
};

}  // namespace fairlead::network
