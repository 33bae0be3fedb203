// SPDX-License-Identifier: Apache-2.0
#include "agent/node/node.h"

#include <algorithm>
#include <utility>

#include "agent/base/log.h"

namespace fairlead::node {
namespace {

constexpr Duration kRuntimeDeadline = std::chrono::seconds(5);
constexpr Duration kSoon = std::chrono::milliseconds(500);
constexpr std::size_t kImages = 50;  // nodeStatusMaxImages
constexpr int kImageNames = 5;

}  // namespace

Health health_of(const Result<cri::api::StatusResponse>& status) {
  if (!status) return {false, "KubeletNotReady", "container runtime is down: " + status.error().message()};
  for (const char* type : {"RuntimeReady", "NetworkReady"}) {
    bool found = false;
    for (const auto& condition : status->status().conditions()) {
      if (condition.type() != type) continue;
      found = true;
      if (!condition.status()) {
        return {false, "KubeletNotReady",
                fmt::format("{} is false: {} {}", type, condition.reason(), condition.message())};
      }
    }
    if (!found) return {false, "KubeletNotReady", fmt::format("container runtime does not report {}", type)};
  }
  return {};
}

void read_runtime(const cri::api::StatusResponse& status, RuntimeFacts& facts) {
  facts.handlers = Json::array();
  for (const auto& handler : status.runtime_handlers()) {
    facts.handlers.push_back({{"name", handler.name()},
                              {"features",
                               {{"recursiveReadOnlyMounts", handler.features().recursive_read_only_mounts()},
                                {"userNamespaces", handler.features().user_namespaces()}}}});
  }
  if (status.has_features()) {
    facts.features = {{"supplementalGroupsPolicy", status.features().supplemental_groups_policy()}};
  }
}

Json images_of(const cri::api::ListImagesResponse& images) {
  std::vector<const cri::api::Image*> sorted;
  for (const auto& image : images.images()) sorted.push_back(&image);
  std::ranges::stable_sort(sorted, std::ranges::greater(), &cri::api::Image::size);
  if (sorted.size() > kImages) sorted.resize(kImages);
  Json list = Json::array();
  for (const cri::api::Image* image : sorted) {
    Json names = Json::array();
    for (const auto* kind : {&image->repo_digests(), &image->repo_tags()}) {
      for (const std::string& name : *kind) {
        if (names.size() < kImageNames) names.push_back(name);
      }
    }
    list.push_back({{"names", std::move(names)}, {"sizeBytes", image->size()}});
  }
  return list;
}

NodeReporter::NodeReporter(Loop& loop, const Clock& clock, Deps deps)
    : loop_(loop),
      clock_(clock),
      deps_(std::move(deps)),
      failures_(metrics::counter(deps_.registry, "fairlead_node_report_failures_total",
                                 "Node registrations, status reports and Lease renewals that failed.")) {}

void NodeReporter::start() {
  deps_.node.attach(loop_, [this](const state::Delta<model::Node>& delta) { node_changed(delta); });
  learn_runtime();
  status_timer_ = loop_.every(deps_.config.status_period, [this] {
    if (!uid_.empty()) look();
  });
  lease_timer_ = loop_.every(deps_.config.lease_period, [this] {
    if (!uid_.empty()) renew_lease();
  });
}

void NodeReporter::node_changed(const state::Delta<model::Node>& delta) {
  for (const auto& change : delta.changes) {
    has_pod_cidrs_ = change.after != nullptr && !change.after->pod_cidrs.empty();
    if (uid_.empty()) continue;
    if (change.after == nullptr && change.before->uid == uid_) {  // somebody deleted the Node: register anew
      uid_.clear();
      register_node();
    } else if (has_pod_cidrs_ && (change.before == nullptr || change.before->pod_cidrs.empty())) {
      look();
    }
  }
}

void NodeReporter::learn_runtime() {
  deps_.runtime.call(loop_, cri::api::VersionRequest(), kRuntimeDeadline,
                     [this](Result<cri::api::VersionResponse> version) {
                       if (version) runtime_.version = version->runtime_name() + "://" + version->runtime_version();
                       register_node();
                     });
}

void NodeReporter::register_node() {
  deps_.api.create("/api/v1/nodes", node_object(deps_.identity, deps_.facts), [this](Result<Json> made) {
    if (made || made.error().code != Code::kConflict) return registered(std::move(made));
    deps_.api.get(node_path(), [this](Result<Json> found) { registered(std::move(found)); });
  });
}

void NodeReporter::registered(Result<Json> node) {
  if (!node) {
    failed("registration failed", node.error());
    retry_ = loop_.after(backoff_.delay(++attempts_), [this] { register_node(); });
    return;
  }
  attempts_ = 0;
  uid_ = (*node)["metadata"].value("uid", "");
  conditions_ = read_conditions(*node);
  reported_ = Json();
  log::info("node", "registered", {{"node", deps_.identity.name}, {"uid", uid_}});
  put_labels(*node);
  look();
  renew_lease();
}

void NodeReporter::put_labels(const Json& node) {
  const Json missing = missing_labels(node, deps_.identity, deps_.facts);
  if (missing.is_null()) return;
  deps_.api.patch(node_path(), {{"metadata", {{"labels", missing}}}}, [this](const Result<Json>& answer) {
    if (!answer) failed("labels not written", answer.error());
  });
}

void NodeReporter::look() {
  if (!looks_.begin()) return;
  deps_.runtime.call(loop_, cri::api::StatusRequest(), kRuntimeDeadline,
                     [this](const Result<cri::api::StatusResponse>& status) {
                       if (status) read_runtime(*status, runtime_);
                       const Health health = health_of(status);
                       deps_.runtime.call(loop_, cri::api::ListImagesRequest(), kRuntimeDeadline,
                                          [this, health](const Result<cri::api::ListImagesResponse>& images) {
                                            if (images) runtime_.images = images_of(*images);
                                            report(health);
                                          });
                     });
}

void NodeReporter::report(Health health) {
  if (uid_.empty()) return looked();
  if (health.ready && deps_.config.needs_pod_cidrs && !has_pod_cidrs_) {
    health = {false, "KubeletNotReady", "the Node object names no pod ranges (spec.podCIDRs) yet"};
  }
  // As with kubelet, who becomes ready is told at once, not with the next period.
  if (!health.ready) soon_ = loop_.after(kSoon, [this] { look(); });
  const TimePoint now = clock_.now();
  auto conditions = conditions_of(health, deps_.pressures(), conditions_, clock_.wall());
  Json status = node_status(deps_.identity, deps_.facts, runtime_);
  const bool told = status == reported_ && conditions == conditions_;
  if (told && now - reported_at_ < deps_.config.report_period) return looked();
  Json body{{"status", status}};
  // Merged by their type, two addresses of one type would be taken for one: the list is replaced.
  body["status"]["addresses"].push_back({{"$patch", "replace"}});
  for (const Condition& condition : conditions) {
    body["status"]["conditions"].push_back(to_json(condition, clock_.wall()));
  }
  deps_.api.patch(node_path() + "/status", body,
                  [this, now, conditions = std::move(conditions), status = std::move(status)](Result<Json> answer) {
                    if (answer) {
                      reported_ = status;
                      conditions_ = conditions;
                      reported_at_ = now;
                      return looked();
                    }
                    looked();
                    failed("status report failed", answer.error());
                    if (answer.error().code != Code::kNotFound) return;  // the next look tries again
                    uid_.clear();                                        // somebody deleted the Node: register anew
                    register_node();
                  });
}

void NodeReporter::looked() {
  if (looks_.end()) look();
}

void NodeReporter::renew_lease() {
  if (!lease_version_.empty()) return put_lease(true);
  deps_.api.get(leases_path() + "/" + deps_.identity.name, [this](Result<Json> found) {
    if (found) lease_version_ = (*found)["metadata"].value("resourceVersion", "");
    if (found || found.error().code == Code::kNotFound) return put_lease(found.has_value());
    failed("lease cannot be read", found.error());
  });
}

void NodeReporter::put_lease(bool exists) {
  const Json lease = lease_object(deps_.identity.name, uid_, clock_.wall(), lease_version_);
  const auto done = [this](Result<Json> answer) {
    if (answer) {
      lease_version_ = (*answer)["metadata"].value("resourceVersion", "");
      return;
    }
    lease_version_.clear();  // read it anew before the next renewal
    failed("lease not renewed", answer.error());
  };
  if (exists) return deps_.api.replace(leases_path() + "/" + deps_.identity.name, lease, done);
  deps_.api.create(leases_path(), lease, done);
}

void NodeReporter::failed(const char* what, const Error& error) {
  failures_.Increment();
  log::warn("node", what, {{"node", deps_.identity.name}, {"error", error}});
}

}  // namespace fairlead::node
