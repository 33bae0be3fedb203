// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/status_writer.h"

#include <k8s/pod.pb.h>

#include "agent/base/log.h"
#include "agent/kube/codec/text.h"

namespace fairlead::kube {
namespace {

std::string pod_path(const model::ObjectId& id) {
  return fmt::format("/api/v1/namespaces/{}/pods/{}", id.ns, id.name);
}

}  // namespace

PodStatusWriter::PodStatusWriter(Loop& loop, JsonApi& api, Receiver<model::PodStatusUpdate> updates, std::string source,
                                 metrics::Registry& registry)
    : loop_(loop),
      api_(api),
      updates_(std::move(updates)),
      source_(std::move(source)),
      failures_(metrics::counter(registry, "fairlead_pod_status_failures_total",
                                 "Pod status reports that the API server did not take; each is retried.")) {
  updates_.attach(loop_, [this](std::vector<model::PodStatusUpdate> batch) {
    for (auto& update : batch) take(std::move(update));
  });
}

void PodStatusWriter::take(model::PodStatusUpdate update) {
  if (update.source != source_) return;
  const std::string uid = update.id.uid;
  PodState& pod = pods_[uid];
  pod.latest = std::move(update);
  pod.fresh = true;
  if (!pod.in_flight) send(uid);
}

void PodStatusWriter::send(const std::string& uid) {
  PodState& pod = pods_.at(uid);
  pod.retry.cancel();
  pod.in_flight = true;
  pod.fresh = false;
  const auto done = [this, uid](const Result<Json>& answer) { answered(uid, answer); };
  const model::ObjectId& id = pod.latest.id;
  if (pod.latest.finished) {
    return api_.remove(pod_path(id), {{"gracePeriodSeconds", 0}, {"preconditions", {{"uid", id.uid}}}}, done);
  }
  api_.patch(pod_path(id) + "/status", {{"metadata", {{"uid", id.uid}}}, {"status", Json(to_json(*pod.latest.status))}},
             done);
}

void PodStatusWriter::answered(const std::string& uid, const Result<Json>& answer) {
  PodState& pod = pods_.at(uid);
  pod.in_flight = false;
  const bool gone = !answer && (answer.error().code == Code::kNotFound || answer.error().code == Code::kConflict);
  if (answer || gone) {  // gone: the object, or this uid of it, is no longer there to be told
    if (pod.fresh) return send(uid);
    pods_.erase(uid);
    return;
  }
  failures_.Increment();
  const Duration wait = backoff_.delay(++pod.failures);
  log::warn("status", "pod status not taken", {{"pod", pod.latest.id.key()}, {"error", answer.error()}});
  pod.retry = loop_.after(wait, [this, uid] { send(uid); });
}

}  // namespace fairlead::kube
