// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/status_writer.h"

#include <k8s/pod.pb.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "agent/kube/api/api_source.h"
#include "agent/kube/codec/text.h"

namespace fairlead::kube {
namespace {

constexpr Duration kBeingMade = std::chrono::seconds(2);

std::string pod_path(const model::ObjectId& id) {
  return fmt::format("/api/v1/namespaces/{}/pods/{}", id.ns, id.name);
}

}  // namespace

Json pod_status_patch(const std::string& uid, const k8s::PodStatus& status) {
  Json body = to_json(status);
  for (const char* field : {"message", "reason", "podIP", "initContainerStatuses", "containerStatuses"}) {
    if (!body.contains(field)) body[field] = nullptr;
  }
  // A list that is merged by key would keep the addresses of a former sandbox.
  Json addresses = Json::array({{{"$patch", "replace"}}});
  for (const Json& address : body.value("podIPs", Json::array())) addresses.push_back(address);
  body["podIPs"] = std::move(addresses);
  return {{"metadata", {{"uid", uid}}}, {"status", std::move(body)}};
}

bool is_being_made(const k8s::PodStatus& status) {
  const auto waits = [](const k8s::ContainerStatus& container) {
    const std::string& reason = container.state().waiting().reason();
    return reason == "ContainerCreating" || reason == "PodInitializing";
  };
  return status.phase() == "Pending" && std::ranges::all_of(status.initcontainerstatuses(), waits) &&
         std::ranges::all_of(status.containerstatuses(), waits);
}

PodStatusWriter::PodStatusWriter(Loop& loop, JsonApi& api, Receiver<model::PodStatusUpdate> updates, MirrorOf mirror_of,
                                 metrics::Registry& registry)
    : loop_(loop),
      api_(api),
      updates_(std::move(updates)),
      mirror_of_(std::move(mirror_of)),
      work_(
          loop, "pod status", [this](const std::string& uid, ApiWork::Done done) { step(uid, std::move(done)); },
          [&failures = metrics::counter(registry, "fairlead_pod_status_failures_total",
                                        "Pod status reports that the API server did not take; each is retried.")] {
            failures.Increment();
          }) {
  updates_.attach(loop, [this](std::vector<model::PodStatusUpdate> batch) {
    for (auto& update : batch) take(std::move(update));
  });
}

void PodStatusWriter::take(model::PodStatusUpdate update) {
  const std::string uid = update.id.uid;
  PodState& pod = pods_[uid];
  pod.latest = std::move(update);
  const bool ran = text_at(pod.told, "/status/phase") == "Running";  // and its end is no news that may wait
  if (!ran && !pod.latest.finished && pod.latest.status && is_being_made(*pod.latest.status)) {
    pod.later = loop_.after(kBeingMade, [this, uid] { work_.mark(uid); });
    return;
  }
  pod.later.cancel();
  work_.mark(uid);
}

void PodStatusWriter::mirror_changed(const std::string& uid) {
  if (pods_.contains(uid)) work_.mark(uid);
}

void PodStatusWriter::step(const std::string& uid, ApiWork::Done done) {
  const auto at = pods_.find(uid);
  if (at == pods_.end()) return done({});
  PodState& pod = at->second;
  const bool is_static = pod.latest.source != kApiSource;
  if (is_static && pod.latest.finished) {
    pods_.erase(at);  // its mirror is not ours to remove
    return done({});
  }
  const std::optional<model::ObjectId> object = is_static ? mirror_of_(uid) : pod.latest.id;
  if (!object) return done({});  // until mirror_changed()
  Json status = pod.latest.status ? pod_status_patch(object->uid, *pod.latest.status) : Json();
  if (status.is_null() || (pod.told_uid == object->uid && pod.told == status)) {
    return pod.latest.finished ? finish(uid, *object, std::move(done)) : done({});
  }
  const auto told = [this, uid, object = *object, status, done](const Result<>& result) {
    if (!result) return done(result);
    PodState& now = pods_.at(uid);
    now.told_uid = object.uid;
    now.told = status;
    if (now.latest.finished) work_.mark(uid);
    done({});
  };
  api_.patch(pod_path(*object) + "/status", status, [this, object = *object, told](const Result<Json>& answer) {
    if (!answer) return gone_or(answer.error(), object, told);
    told({});
  });
}

void PodStatusWriter::finish(const std::string& uid, const model::ObjectId& object, ApiWork::Done done) {
  const auto finished = [this, uid, done = std::move(done)](const Result<>& result) {
    if (result) pods_.erase(uid);
    done(result);
  };
  api_.remove(pod_path(object), {{"gracePeriodSeconds", 0}, {"preconditions", {{"uid", object.uid}}}},
              [this, object, finished](const Result<Json>& answer) {
                if (!answer) return gone_or(answer.error(), object, finished);
                finished({});
              });
}

// Success where `error` says that this object is no longer there to be told: missing, or another one by its name. The
// server calls the latter a conflict or an invalid change of metadata.uid, and other things too: it is looked up.
void PodStatusWriter::gone_or(const Error& error, const model::ObjectId& object, ApiWork::Done done) {
  if (error.code == Code::kNotFound) return done({});
  if (error.code != Code::kConflict && error.code != Code::kInvalid) return done(std::unexpected(error));
  api_.get(pod_path(object), [error, object, done = std::move(done)](const Result<Json>& found) {
    const bool gone = found ? text_at(*found, "/metadata/uid") != object.uid : found.error().code == Code::kNotFound;
    done(gone ? Result<>() : std::unexpected(error));
  });
}

std::map<std::string, Error> PodStatusWriter::failing() const {
  std::map<std::string, Error> all;
  for (auto& [uid, error] : work_.failing()) {
    if (const auto at = pods_.find(uid); at != pods_.end()) all.emplace(at->second.latest.id.key(), error);
  }
  return all;
}

}  // namespace fairlead::kube
