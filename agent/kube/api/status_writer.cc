// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/status_writer.h"

#include <k8s/pod.pb.h>

#include <algorithm>
#include <charconv>
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

// A resourceVersion; 0 where it is none. Versions of objects of a kind are numbers that grow.
std::uint64_t version_of(const std::string& text) {
  std::uint64_t version = 0;
  std::from_chars(text.data(), text.data() + text.size(), version);
  return version;
}

// Whether `shown` has each condition of `told`.
bool has_conditions(const k8s::PodStatus& shown, const k8s::PodStatus& told) {
  return std::ranges::all_of(told.conditions(), [&](const k8s::PodCondition& ours) {
    return std::ranges::any_of(shown.conditions(), [&](const k8s::PodCondition& each) {
      return each.type() == ours.type() && each.status() == ours.status();
    });
  });
}

}  // namespace

// Lets the writer see each pod on its way to the table.
class PodStatusWriter::Sink final : public ObjectSink {
 public:
  Sink(PodStatusWriter& owner, std::unique_ptr<ObjectSink> pods) : owner_(owner), pods_(std::move(pods)) {}

  void begin_list() override { pods_->begin_list(); }
  void end_list() override { pods_->end_list(); }
  Result<> put(const ObjectHead& head, std::string_view object) override {
    owner_.saw(head, object);
    return pods_->put(head, object);
  }
  void remove(const ObjectHead& head) override { pods_->remove(head); }

 private:
  PodStatusWriter& owner_;
  std::unique_ptr<ObjectSink> pods_;
};

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
  const bool ran = pod.told && pod.told->phase() == "Running";  // and its end is no news that may wait
  if (!ran && !pod.latest.finished && pod.latest.status && is_being_made(*pod.latest.status)) {
    pod.later = loop_.after(kBeingMade, [this, uid] { work_.mark(uid); });
    return;
  }
  pod.later.cancel();
  work_.mark(uid);
}

std::unique_ptr<ObjectSink> PodStatusWriter::watch(std::unique_ptr<ObjectSink> pods) {
  return std::make_unique<Sink>(*this, std::move(pods));
}

// What the object says from after our last word, and otherwise, is told again.
void PodStatusWriter::saw(const ObjectHead& head, std::string_view object) {
  const auto at = std::ranges::find(pods_, head.uid, [](const auto& each) { return each.second.told_uid; });
  if (head.uid.empty() || at == pods_.end()) return;
  PodState& pod = at->second;
  k8s::Pod shown;
  if (version_of(head.resource_version) <= pod.told_version ||
      !shown.ParseFromArray(object.data(), static_cast<int>(object.size())) ||
      has_conditions(shown.status(), *pod.told)) {
    return;
  }
  pod.told_uid.clear();
  work_.mark(at->first);
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
  const auto status = pod.latest.status;
  if (!status) return pod.latest.finished ? finish(uid, *object, std::move(done)) : done({});
  const Json patch = pod_status_patch(object->uid, *status);
  if (pod.told_uid == object->uid && (pod.told == status || pod_status_patch(object->uid, *pod.told) == patch)) {
    return pod.latest.finished ? finish(uid, *object, std::move(done)) : done({});
  }
  const auto told = [this, uid, object = *object, status, done](const Result<>& result, std::uint64_t version = 0) {
    if (!result) return done(result);
    PodState& now = pods_.at(uid);
    now.told_uid = object.uid;
    now.told = status;
    now.told_version = version;
    if (now.latest.finished) work_.mark(uid);
    done({});
  };
  api_.patch(pod_path(*object) + "/status", patch, [this, object = *object, told](const Result<Json>& answer) {
    if (!answer) return gone_or(answer.error(), object, told);
    told({}, version_of(text_at(*answer, "/metadata/resourceVersion")));
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
