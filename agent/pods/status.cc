// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/status.h"

#include <algorithm>
#include <set>

#include "agent/base/timestamp.h"
#include "agent/kube/codec/quantity.h"
#include "agent/kube/codec/time.h"
#include "agent/pods/plan.h"

namespace fairlead::pods {
namespace {

k8s::Time api_time(WallTime time) {
  k8s::Time out;
  out.set_seconds(to_timestamp(time).seconds);
  return out;
}

void wait(k8s::ContainerState& state, const std::string& reason, const std::string& message = "") {
  state.mutable_waiting()->set_reason(reason);
  if (!message.empty()) state.mutable_waiting()->set_message(message);
}

constexpr std::int32_t kLostExitCode = 137;

// A container that ran and of which the runtime knows nothing any more.
void lost(k8s::ContainerState& state, const std::string& message, const std::string& id) {
  auto& end = *state.mutable_terminated();
  end.set_exitcode(kLostExitCode);
  end.set_reason("ContainerStatusUnknown");
  end.set_message(message);
  if (!id.empty()) end.set_containerid(id);
}

void terminated(k8s::ContainerState& state, const ContainerView& container, const std::string& id) {
  auto& end = *state.mutable_terminated();
  end.set_exitcode(container.exit_code);
  end.set_reason(!container.reason.empty() ? container.reason : container.exit_code == 0 ? "Completed" : "Error");
  if (!container.message.empty()) end.set_message(container.message);
  if (container.started != WallTime{}) *end.mutable_startedat() = api_time(container.started);
  *end.mutable_finishedat() = api_time(container.finished);
  end.set_containerid(id);
}

// One status' worth of facts.
class Computer {
 public:
  explicit Computer(const StatusInput& input)
      : in_(input), spec_(input.pod.spec()), outcome_(pod_outcome(spec_, input.view, input.history)) {}

  k8s::PodStatus run() {
    if (in_.pod.metadata().generation() > 0) status_.set_observedgeneration(in_.pod.metadata().generation());
    initialized_ = spec_.initcontainers().empty() || initialized(spec_, in_.view, in_.history);
    for (const auto& container : spec_.initcontainers()) init_status(container);
    for (const auto& container : spec_.containers()) app_status(container);
    if (ending_at_rest()) rest();
    status_.set_phase(phase());
    status_.set_qosclass(qos_class(spec_));
    if (in_.history.refused) {
      status_.set_reason(in_.history.refused->reason);
      status_.set_message(in_.history.refused->message);
    }
    *status_.mutable_starttime() = start_time();
    addresses();
    conditions();
    return std::move(status_);
  }

 private:
  bool terminal() const { return outcome_ != Outcome::kOpen; }

  // The pod is to go and nothing of it runs any more: it will not run again.
  bool ending_at_rest() const {
    return in_.history.ending_grace_s && std::ranges::none_of(in_.view.containers, [](const ContainerView& one) {
             return one.state == RunState::kRunning || one.state == RunState::kUnknown;
           });
  }

  // A pod that had begun ends with every container terminated, as kubelet tells it.
  void rest() {
    if (outcome_ == Outcome::kOpen) outcome_ = Outcome::kSucceeded;
    for (auto& status : *status_.mutable_containerstatuses()) {
      if (initialized_ && !status.state().has_terminated()) {
        lost(*status.mutable_state(), "The container could not be located when the pod was terminated",
             status.containerid());
      }
      const auto& state = status.state();
      if (!state.has_terminated() || state.terminated().exitcode() != 0) outcome_ = Outcome::kFailed;
    }
  }

  // As it was told; else what the runtime knows of an agent's life before.
  k8s::Time start_time() const {
    if (in_.last != nullptr && in_.last->has_starttime()) return in_.last->starttime();
    WallTime start = in_.now;
    for (const SandboxView& sandbox : in_.view.sandboxes) start = std::min(start, sandbox.created);
    return api_time(start);
  }

  std::string id_of(const ContainerView& container) const { return in_.runtime_name + "://" + container.id; }

  // What was told of a container before, or nullptr.
  const k8s::ContainerStatus* told(const std::string& name) const {
    if (in_.last == nullptr) return nullptr;
    for (const auto* list : {&in_.last->containerstatuses(), &in_.last->initcontainerstatuses()}) {
      const auto at = std::ranges::find(*list, name, [](const auto& one) { return one.name(); });
      if (at != list->end() && !at->containerid().empty()) return &*at;
    }
    return nullptr;
  }

  // The runtime has nothing of a container that ran: removed behind our back, or by an earlier agent at the pod's end.
  bool vanished(const std::string& name, k8s::ContainerStatus& status) const {
    const k8s::ContainerStatus* before = told(name);
    if (before == nullptr) return false;
    status.set_containerid(before->containerid());
    status.set_imageid(before->imageid());
    status.set_restartcount(before->restartcount());
    if (before->state().has_terminated()) {
      *status.mutable_state() = before->state();
    } else {
      lost(*status.mutable_state(), "The container could not be located when the pod was terminated",
           before->containerid());
    }
    return true;
  }

  void init_status(const k8s::Container& container) {
    auto& status = *status_.add_initcontainerstatuses();
    container_status(container, status, "PodInitializing");
    if (is_sidecar(spec_, container.name())) return set_ready(container, status);
    status.set_ready(status.state().has_terminated() && status.state().terminated().exitcode() == 0);
  }

  void app_status(const k8s::Container& container) {
    auto& status = *status_.add_containerstatuses();
    container_status(container, status, initialized_ ? "ContainerCreating" : "PodInitializing");
    set_ready(container, status);
  }

  void set_ready(const k8s::Container& container, k8s::ContainerStatus& status) const {
    const ContainerView* last = in_.view.latest(container.name());
    if (status.state().has_running() && status.started()) {
      const auto probed = in_.ready.find(last->id);
      status.set_ready(probed == in_.ready.end() ? !container.has_readinessprobe() : probed->second);
    } else {
      status.set_ready(false);
    }
  }

  void container_status(const k8s::Container& container, k8s::ContainerStatus& status,
                        const std::string& waiting_reason) {
    status.set_name(container.name());
    status.set_image(container.image());
    status.set_imageid("");
    status.set_restartcount(0);
    status.set_started(false);
    const auto failure = in_.history.failures.find(container.name());
    const bool failing = failure != in_.history.failures.end() && !terminal();
    const ContainerView* last = in_.view.latest(container.name());
    if (last == nullptr) {
      if (in_.history.ending_grace_s && vanished(container.name(), status)) return;
      if (failing) {
        wait(*status.mutable_state(), failure->second.reason, failure->second.message);
      } else {
        wait(*status.mutable_state(), waiting_reason);
      }
      return;
    }
    status.set_restartcount(static_cast<std::int32_t>(last->attempt));
    status.set_containerid(id_of(*last));
    if (!last->image.empty()) status.set_image(last->image);
    status.set_imageid(last->image_id);
    const ContainerView* before = in_.view.latest(container.name(), last->attempt);
    auto& state = *status.mutable_state();
    switch (last->state) {
      case RunState::kRunning:
        *state.mutable_running()->mutable_startedat() = api_time(last->started);
        status.set_started(has_started(container, *last, in_.history));
        break;
      case RunState::kCreated:
      case RunState::kUnknown:
        if (failing) {
          wait(state, failure->second.reason, failure->second.message);
        } else {
          wait(state, waiting_reason);
        }
        break;
      case RunState::kExited:
        if (failing) {
          wait(state, failure->second.reason, failure->second.message);
          before = last;
        } else if (crash_looping(container, *last)) {
          wait(state, "CrashLoopBackOff",
               fmt::format("back-off {} restarting failed container={} pod={}_{}({})",
                           kube::format_duration(crash_delay(*last)), container.name(), in_.pod.metadata().name(),
                           in_.pod.metadata().namespace_(), in_.pod.metadata().uid()));
          before = last;
        } else {
          terminated(state, *last, id_of(*last));
        }
        break;
    }
    if (before != nullptr && before->state == RunState::kExited)
      terminated(*status.mutable_laststate(), *before, id_of(*before));
  }

  bool crash_looping(const k8s::Container& container, const ContainerView& exited) const {
    if (terminal() || in_.history.ending_grace_s || !restarts(spec_, exited)) return false;
    const bool done = is_init_container(spec_, container.name()) && !is_sidecar(spec_, container.name());
    return !(done && exited.exit_code == 0) && restart_time(exited) > in_.now;
  }

  std::string phase() const {
    switch (outcome_) {
      case Outcome::kSucceeded:
        return "Succeeded";
      case Outcome::kFailed:
        return "Failed";
      case Outcome::kOpen:
        break;
    }
    if (!initialized_) return "Pending";
    // Running once every container was made and one runs or is between two runs.
    bool live = false;
    for (const auto& status : status_.containerstatuses()) {
      const bool waiting = status.state().has_waiting() && !status.has_laststate();
      if (waiting) return "Pending";
      live = true;
    }
    return live ? "Running" : "Pending";
  }

  void addresses() {
    for (const IpAddress& ip : in_.node_ips) status_.add_hostips()->set_ip(ip.str());
    if (!in_.node_ips.empty()) status_.set_hostip(in_.node_ips.front().str());
    const SandboxView* sandbox = in_.view.sandbox();
    const std::vector<IpAddress> none;
    const auto& ips = sandbox == nullptr || terminal() ? none : spec_.hostnetwork() ? in_.node_ips : sandbox->ips;
    for (const IpAddress& ip : ips) status_.add_podips()->set_ip(ip.str());
    if (!ips.empty()) {
      status_.set_podip(ips.front().str());
    } else if (terminal() && in_.last != nullptr && in_.last->has_podip()) {  // it had them to its end
      status_.set_podip(in_.last->podip());
      *status_.mutable_podips() = in_.last->podips();
    }
  }

  void add(const std::string& type, bool value, const std::string& reason = "", const std::string& message = "") {
    auto& condition = *status_.add_conditions();
    condition.set_type(type);
    condition.set_status(value ? "True" : "False");
    // Empty, not absent, where there is nothing to say: a merge on the server would keep the word from before.
    condition.set_reason(value ? "" : reason);
    condition.set_message(value ? "" : message);
    if (status_.has_observedgeneration()) condition.set_observedgeneration(status_.observedgeneration());
    *condition.mutable_lasttransitiontime() = api_time(in_.now);
    if (in_.last == nullptr) return;
    for (const auto& last : in_.last->conditions()) {
      if (last.type() == type && last.status() == condition.status()) {
        *condition.mutable_lasttransitiontime() = last.lasttransitiontime();
      }
    }
  }

  void conditions() {
    const SandboxView* sandbox = in_.view.sandbox();
    const bool succeeded = outcome_ == Outcome::kSucceeded;
    add("PodReadyToStartContainers", sandbox != nullptr && sandbox->ready);

    std::vector<std::string> incomplete;
    std::vector<std::string> unready;
    for (const auto& status : status_.initcontainerstatuses()) {
      const bool sidecar = is_sidecar(spec_, status.name());
      if (!(sidecar ? status.started() : status.ready())) incomplete.push_back(status.name());
      if (sidecar && !status.ready()) unready.push_back(status.name());
    }
    const std::string init_message =
        incomplete.empty() || initialized_
            ? ""
            : fmt::format("containers with incomplete status: [{}]", fmt::join(incomplete, " "));
    const bool never_ran = in_.history.refused && in_.view.containers.empty();
    add("Initialized", (initialized_ && !never_ran) || succeeded, never_ran ? "PodFailed" : "ContainersNotInitialized",
        init_message);

    for (const auto& status : status_.containerstatuses()) {
      if (!status.ready()) unready.push_back(status.name());
    }
    const std::string reason = succeeded                      ? "PodCompleted"
                               : outcome_ == Outcome::kFailed ? "PodFailed"
                                                              : "ContainersNotReady";
    const std::string message = reason != "ContainersNotReady" || unready.empty()
                                    ? ""
                                    : fmt::format("containers with unready status: [{}]", fmt::join(unready, " "));
    const bool ready = !terminal() && unready.empty() && sandbox != nullptr && sandbox->ready;
    add("ContainersReady", ready, reason, message);
    const std::string gates = ready ? missing_gates() : "";
    add("Ready", ready && gates.empty(), ready ? "ReadinessGatesNotReady" : reason, ready ? gates : message);
    add("PodScheduled", true);
  }

  // Readiness gates that do not hold, in kubelet's words; empty: all do.
  std::string missing_gates() const {
    std::vector<std::string> missing;
    for (const auto& gate : spec_.readinessgates()) {
      const auto& conditions = in_.pod.status().conditions();
      const auto at = std::ranges::find(conditions, gate.conditiontype(), [](const auto& one) { return one.type(); });
      if (at == conditions.end()) {
        missing.push_back(
            fmt::format("corresponding condition of pod readiness gate \"{}\" does not exist.", gate.conditiontype()));
      } else if (at->status() != "True") {
        missing.push_back(fmt::format("the status of pod readiness gate \"{}\" is not \"True\", but {}",
                                      gate.conditiontype(), at->status()));
      }
    }
    return fmt::format("{}", fmt::join(missing, ", "));
  }

  const StatusInput& in_;
  const k8s::PodSpec& spec_;
  Outcome outcome_;
  bool initialized_ = false;
  k8s::PodStatus status_;
};

}  // namespace

k8s::PodStatus compute_status(const StatusInput& input) {
  return Computer(input).run();
}

std::string qos_class(const k8s::PodSpec& spec) {
  bool any = false;
  bool guaranteed = true;
  const auto amount = [](const auto& map, const std::string& name) {
    const auto at = map.find(name);
    if (at == map.end()) return kube::Quantity();
    return kube::Quantity::parse(at->second.string()).value_or(kube::Quantity());
  };
  const auto look = [&](const auto& containers) {
    for (const auto& container : containers) {
      for (const std::string name : {"cpu", "memory"}) {
        const auto limit = amount(container.resources().limits(), name);
        const auto request = amount(container.resources().requests(), name);
        any |= limit > kube::Quantity() || request > kube::Quantity();
        // A missing request is the limit, as the API defaults it.
        guaranteed &= limit > kube::Quantity() && (request == kube::Quantity() || request == limit);
      }
    }
  };
  look(spec.initcontainers());
  look(spec.containers());
  return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}

bool condition(const k8s::PodStatus& status, const std::string& type) {
  return std::ranges::any_of(status.conditions(),
                             [&](const auto& one) { return one.type() == type && one.status() == "True"; });
}

}  // namespace fairlead::pods
