// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/mirror_pods.h"

#include <k8s/meta.pb.h>
#include <k8s/pod.pb.h>

#include <algorithm>
#include <set>
#include <utility>

#include "agent/kube/codec/text.h"

namespace fairlead::kube {
namespace {

// Annotations of kubelet's.
constexpr auto kMirror = "kubernetes.io/config.mirror";
constexpr auto kHash = "kubernetes.io/config.hash";
constexpr auto kSource = "kubernetes.io/config.source";

std::string pods_path(const std::string& ns) {
  return fmt::format("/api/v1/namespaces/{}/pods", ns);
}

}  // namespace

Json mirror_pod(const k8s::Pod& pod, const std::string& node_name, const std::string& node_uid) {
  const k8s::ObjectMeta& from = pod.metadata();
  Json annotations(std::map<std::string, std::string>(from.annotations().begin(), from.annotations().end()));
  annotations[kMirror] = from.uid();
  annotations[kHash] = from.uid();
  annotations[kSource] = "file";
  Json meta{{"name", from.name()}, {"namespace", from.namespace_()}, {"annotations", std::move(annotations)}};
  meta["labels"] = std::map<std::string, std::string>(from.labels().begin(), from.labels().end());
  meta["ownerReferences"] = Json::array(
      {{{"apiVersion", "v1"}, {"kind", "Node"}, {"name", node_name}, {"uid", node_uid}, {"controller", true}}});
  return {{"apiVersion", "v1"}, {"kind", "Pod"}, {"metadata", std::move(meta)}, {"spec", Json(to_json(pod.spec()))}};
}

// Parts the node's pods into mirrors and others.
class MirrorPods::Sink final : public ObjectSink {
 public:
  Sink(MirrorPods& owner, std::unique_ptr<ObjectSink> others) : owner_(owner), others_(std::move(others)) {}

  void begin_list() override {
    listing_.emplace();
    others_->begin_list();
  }
  void end_list() override {
    others_->end_list();
    owner_.listed(*std::exchange(listing_, std::nullopt));
  }
  Result<> put(const ObjectHead& head, std::string_view object) override {
    // Only one that may be a mirror is parsed here.
    k8s::PartialObject partial;
    if (object.find(kMirror) == object.npos ||
        !partial.ParseFromArray(object.data(), static_cast<int>(object.size())) ||
        !partial.metadata().annotations().contains(kMirror)) {
      return others_->put(head, object);
    }
    const k8s::ObjectMeta& meta = partial.metadata();
    Mirror mirror{
        {meta.namespace_(), meta.name(), meta.uid()}, meta.annotations().at(kMirror), meta.has_deletiontimestamp()};
    if (listing_) {
      (*listing_)[mirror.id.key()] = std::move(mirror);
    } else {
      owner_.saw(std::move(mirror));
    }
    return {};
  }
  void remove(const ObjectHead& head) override {
    others_->remove(head);
    if (!listing_) return owner_.lost(head);
    const auto at = listing_->find(key_by_name(head));
    if (at != listing_->end() && at->second.id.uid == head.uid) listing_->erase(at);
  }

 private:
  MirrorPods& owner_;
  std::unique_ptr<ObjectSink> others_;
  std::optional<Mirrors> listing_;
};

MirrorPods::MirrorPods(Loop& loop, JsonApi& api, Deps deps)
    : api_(api),
      deps_(std::move(deps)),
      work_(loop, "mirror pod", [this](const std::string& key, ApiWork::Done done) { step(key, std::move(done)); }) {
  deps_.pods.attach(loop, [this](std::vector<model::StaticPod> pods) {
    for (auto& pod : pods) take(std::move(pod));
  });
}

std::unique_ptr<ObjectSink> MirrorPods::sort_out(std::unique_ptr<ObjectSink> pods) {
  return std::make_unique<Sink>(*this, std::move(pods));
}

std::optional<model::ObjectId> MirrorPods::mirror_of(const std::string& static_uid) const {
  for (const auto& [key, mirror] : mirrors_) {
    if (mirror.hash == static_uid && !mirror.deleting) return mirror.id;
  }
  return std::nullopt;
}

void MirrorPods::take(model::StaticPod pod) {
  if (pod.id.uid.empty()) {
    all_named_ = true;
    for (const auto& [key, mirror] : Mirrors(mirrors_)) work_.mark(key);
    return;
  }
  const std::string key = pod.id.key();
  auto& namesakes = pods_[key];
  const auto at = std::ranges::find(namesakes, pod.id.uid, [](const model::StaticPod& each) { return each.id.uid; });
  if (pod.object == nullptr) {
    if (at != namesakes.end()) namesakes.erase(at);
    if (namesakes.empty()) pods_.erase(key);
  } else if (at != namesakes.end()) {
    *at = std::move(pod);
  } else {
    namesakes.push_back(std::move(pod));
  }
  work_.mark(key);
}

void MirrorPods::saw(Mirror mirror) {
  const std::string key = mirror.id.key();
  const std::string hash = mirror.hash;
  mirrors_[key] = std::move(mirror);
  work_.mark(key);
  deps_.changed(hash);
}

void MirrorPods::lost(const ObjectHead& head) {
  const std::string key = key_by_name(head);
  const auto at = mirrors_.find(key);
  if (at == mirrors_.end() || at->second.id.uid != head.uid) return;
  mirrors_.erase(at);
  work_.mark(key);
}

void MirrorPods::listed(Mirrors mirrors) {
  listed_ = true;
  std::set<std::string> keys;
  for (const auto& [key, mirror] : std::exchange(mirrors_, std::move(mirrors))) keys.insert(key);
  for (const auto& [key, mirror] : mirrors_) keys.insert(key);
  for (const auto& [key, pods] : pods_) keys.insert(key);
  for (const std::string& key : keys) work_.mark(key);
  for (const auto& [key, mirror] : Mirrors(mirrors_)) deps_.changed(mirror.hash);
}

void MirrorPods::step(const std::string& key, ApiWork::Done done) {
  if (!listed_) return done({});
  const auto wanted = pods_.find(key);
  const auto mirror = mirrors_.find(key);
  if (mirror == mirrors_.end()) {
    if (wanted == pods_.end()) return done({});
    if (node_uid_.empty()) return learn_node(key, std::move(done));
    return create(*wanted->second.front().object, std::move(done));
  }
  const Mirror& shown = mirror->second;
  const bool right =
      wanted == pods_.end() ? !all_named_ : shown.hash == wanted->second.front().id.uid && !shown.deleting;
  if (right) return done({});
  // What follows comes when the watch says that it is gone.
  api_.remove(pods_path(shown.id.ns) + "/" + shown.id.name,
              {{"gracePeriodSeconds", 0}, {"preconditions", {{"uid", shown.id.uid}}}},
              [done = std::move(done)](const Result<Json>& answer) {
                const bool gone =
                    answer || answer.error().code == Code::kNotFound || answer.error().code == Code::kConflict;
                done(gone ? Result<>() : std::unexpected(answer.error()));
              });
}

void MirrorPods::create(const k8s::Pod& pod, ApiWork::Done done) {
  api_.create(pods_path(pod.metadata().namespace_()), mirror_pod(pod, deps_.node_name, node_uid_),
              [this, done = std::move(done)](const Result<Json>& answer) {
                if (answer) return done({});
                node_uid_.clear();  // the Node may be another one by now
                done(std::unexpected(answer.error()));
              });
}

void MirrorPods::learn_node(const std::string& key, ApiWork::Done done) {
  api_.get("/api/v1/nodes/" + deps_.node_name, [this, key, done = std::move(done)](const Result<Json>& node) {
    if (!node) return done(std::unexpected(node.error()));
    node_uid_ = text_at(*node, "/metadata/uid");
    work_.mark(key);
    done({});
  });
}

}  // namespace fairlead::kube
