// SPDX-License-Identifier: Apache-2.0
#include "agent/network/pod_gate.h"

#include <algorithm>

namespace fairlead::network {

PodGate::PodGate(Loop& loop, state::TableReader<model::Pod> pods, Duration patience)
    : loop_(loop), pods_(std::move(pods)), patience_(patience) {}

void PodGate::start() {
  pods_.attach(loop_, [this](const state::Delta<model::Pod>& delta) { pods_changed(delta); });
}

bool PodGate::knows(const Attachment& attachment) const {
  if (!attachment.pod_uid.empty()) return names_.contains(attachment.pod_uid);
  return std::ranges::any_of(names_, [&](const auto& entry) { return entry.second == attachment.pod(); });
}

void PodGate::pods_changed(const state::Delta<model::Pod>& delta) {
  for (const auto& change : delta.changes) {
    if (change.after != nullptr) {
      names_[change.key] = change.after->id.key();
    } else {
      names_.erase(change.key);
    }
  }
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    const auto place = at++;
    if (knows(place->attachment)) let_go(place, {});
  }
}

void PodGate::pass(const Attachment& attachment, Go go) {
  if (knows(attachment)) return go({});
  const Place place = waiting_.insert(waiting_.end(), {attachment, std::move(go), {}});
  place->deadline = loop_.after(patience_, [this, place] {
    let_go(place, fail(Code::kUnavailable, "pod {}: the API server has not told of it (uid \"{}\") within {} ms",
                       place->attachment.pod(), place->attachment.pod_uid,
                       std::chrono::duration_cast<std::chrono::milliseconds>(patience_).count()));
  });
}

void PodGate::let_go(Place place, Result<> result) {
  Go go = std::move(place->go);
  waiting_.erase(place);
  go(std::move(result));
}

}  // namespace fairlead::network
