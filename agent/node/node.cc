// SPDX-License-Identifier: Apache-2.0
#include "agent/node/node.h"

#include "agent/base/log.h"

namespace fairlead::node {
namespace {

constexpr Duration kRuntimeDeadline = std::chrono::seconds(5);

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

NodeReporter::NodeReporter(Loop& loop, const Clock& clock, Deps deps)
    : loop_(loop),
      clock_(clock),
      deps_(std::move(deps)),
      failures_(metrics::counter(deps_.registry, "fairlead_node_report_failures_total",
                                 "Node registrations, status reports and Lease renewals that failed.")) {}

void NodeReporter::start() {
  learn_runtime();
  status_timer_ = loop_.every(deps_.config.status_period, [this] {
    if (!uid_.empty()) look();
  });
  lease_timer_ = loop_.every(deps_.config.lease_period, [this] {
    if (!uid_.empty()) renew_lease();
  });
}

void NodeReporter::learn_runtime() {
  deps_.runtime.call(loop_, cri::api::VersionRequest(), kRuntimeDeadline,
                     [this](Result<cri::api::VersionResponse> version) {
                       if (version)
                         deps_.identity.runtime_version = version->runtime_name() + "://" + version->runtime_version();
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
    failures_.Increment();
    log::warn("node", "registration failed", {{"node", deps_.identity.name}, {"error", node.error()}});
    retry_ = loop_.after(backoff_.delay(++attempts_), [this] { register_node(); });
    return;
  }
  attempts_ = 0;
  uid_ = (*node)["metadata"].value("uid", "");
  log::info("node", "registered", {{"node", deps_.identity.name}, {"uid", uid_}});
  look();
  renew_lease();
}

void NodeReporter::look() {
  deps_.runtime.call(loop_, cri::api::StatusRequest(), kRuntimeDeadline,
                     [this](Result<cri::api::StatusResponse> status) { report(health_of(status)); });
}

void NodeReporter::report(const Health& health) {
  const TimePoint now = clock_.now();
  if (reported_ == health && now - reported_at_ < deps_.config.report_period) return;
  if (!reported_ || reported_->ready != health.ready) ready_since_ = clock_.wall();
  deps_.api.patch(
      node_path() + "/status", node_status_patch(deps_.identity, deps_.facts, health, clock_.wall(), ready_since_),
      [this, health, now](Result<Json> answer) {
        if (answer) {
          reported_ = health;
          reported_at_ = now;
          return;
        }
        failures_.Increment();
        log::warn("node", "status report failed", {{"node", deps_.identity.name}, {"error", answer.error()}});
        if (answer.error().code != Code::kNotFound) return;  // the next look tries again
        uid_.clear();                                        // somebody deleted the Node: register anew
        reported_.reset();
        register_node();
      });
}

void NodeReporter::renew_lease() {
  if (!lease_version_.empty()) return put_lease(true);
  deps_.api.get(leases_path() + "/" + deps_.identity.name, [this](Result<Json> found) {
    if (found) lease_version_ = (*found)["metadata"].value("resourceVersion", "");
    if (found || found.error().code == Code::kNotFound) return put_lease(found.has_value());
    failures_.Increment();
    log::warn("node", "lease cannot be read", {{"node", deps_.identity.name}, {"error", found.error()}});
  });
}

void NodeReporter::put_lease(bool exists) {
  const Json lease = lease_object(deps_.identity.name, uid_, clock_.wall(), lease_version_);
  const auto done = [this](Result<Json> answer) {
    if (answer) {
      lease_version_ = (*answer)["metadata"].value("resourceVersion", "");
      return;
    }
    failures_.Increment();
    lease_version_.clear();  // read it anew before the next renewal
    log::warn("node", "lease not renewed", {{"node", deps_.identity.name}, {"error", answer.error()}});
  };
  if (exists) return deps_.api.replace(leases_path() + "/" + deps_.identity.name, lease, done);
  deps_.api.create(leases_path(), lease, done);
}

}  // namespace fairlead::node
