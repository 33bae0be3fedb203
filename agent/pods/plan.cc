// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/plan.h"

#include <k8s/pod.pb.h>

#include <algorithm>

#include "agent/base/reconciler.h"

namespace fairlead::pods {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr Backoff kBackoff{seconds(10), seconds(300)};
constexpr Backoff kEndAgain{std::chrono::milliseconds(100), minutes(1)};
constexpr unsigned kEndTries = 7;             // over 6 s: then nobody waits any more for what is over
constexpr Duration kSyncAgain = seconds(10);  // kubelet's backOffPeriod
constexpr Duration kLongRun = minutes(10);
constexpr std::int64_t kDefaultGraceSeconds = 30;
constexpr std::int64_t kLeastGraceSeconds = 2;  // of a sidecar, whatever those before it took

bool long_run(const ContainerView& exited) {
  return exited.started != WallTime{} && exited.finished - exited.started >= kLongRun;
}

bool alive(const ContainerView& container) {
  return container.state == RunState::kRunning || container.state == RunState::kUnknown;
}

bool never(const k8s::PodSpec& spec) {
  return spec.restartpolicy() == "Never";
}

// Collects actions of one plan; keeps the rules readable.
class Planner {
 public:
  Planner(const k8s::PodSpec& spec, const PodRuntimeView& view, const PodHistory& history, WallTime now)
      : spec_(spec), view_(view), history_(history), now_(now) {}

  Plan run() {
    if (history_.ending_grace_s) {
      end();
    } else if (pod_outcome(spec_, view_, history_) != Outcome::kOpen) {
      settle();
    } else {
      keep();
    }
    return std::move(plan_);
  }

 private:
  void add(Action action) { plan_.actions.push_back(std::move(action)); }

  // True when `until` has come; else remembers to wake then.
  bool due(WallTime until) {
    if (until <= now_) return true;
    plan_.wake = plan_.wake ? std::min(*plan_.wake, until) : until;
    return false;
  }
  bool due(const std::string& key) {
    const auto at = history_.failures.find(key);
    return at == history_.failures.end() || due(at->second.until);
  }

  // What ends or removes something, unless it failed lately: then it waits.
  void tidy(Action action) {
    if (due(end_key(action))) add(std::move(action));
  }
  // The same where all that follows waits for it.
  void end_one(Action action) {
    ends_ = true;
    tidy(std::move(action));
  }

  std::int64_t grace() const {
    if (history_.ending_grace_s) return *history_.ending_grace_s;
    return spec_.has_terminationgraceperiodseconds() ? spec_.terminationgraceperiodseconds() : kDefaultGraceSeconds;
  }
  void kill(const ContainerView& container, const std::string& reason) {
    std::int64_t given = grace();
    if (history_.ending_grace_s && given > 0 && is_sidecar(spec_, container.name)) {
      // What those before it have left of the pod's.
      const auto gone = std::chrono::duration_cast<seconds>(now_ - history_.ending_since).count();
      given = std::max(given - gone, kLeastGraceSeconds);
    }
    end_one(
        {.what = Do::kKillContainer, .name = container.name, .id = container.id, .grace_s = given, .reason = reason});
  }
  // Kills what lives, sidecars one by one when nothing else does any more, the last of them first; true when nothing
  // did.
  bool kill_all(const std::string& reason) {
    for (const ContainerView& container : view_.containers) {
      if (alive(container) && !is_sidecar(spec_, container.name)) kill(container, reason);
    }
    for (int i = spec_.initcontainers_size() - 1; i >= 0 && !ends_; --i) {
      for (const ContainerView& container : view_.containers) {
        if (alive(container) && container.name == spec_.initcontainers(i).name()) kill(container, reason);
      }
    }
    return !ends_;
  }
  bool stop_sandboxes() {
    for (const SandboxView& sandbox : view_.sandboxes) {
      if (sandbox.ready) end_one({.what = Do::kStopSandbox, .id = sandbox.id});
    }
    return !ends_;
  }

  // To the end: nothing of the pod is left behind. What the runtime knows goes last, so that an agent that dies on the
  // way finds the pod again.
  void end() {
    if (!kill_all("Killing") || !stop_sandboxes()) return;
    if (!history_.torn_down) end_one({.what = Do::kTearDown});
    if (ends_) return;
    plan_.gone = true;
    for (const ContainerView& container : view_.containers) remove({.what = Do::kRemoveContainer, .id = container.id});
    for (const SandboxView& sandbox : view_.sandboxes) remove({.what = Do::kRemoveSandbox, .id = sandbox.id});
  }
  // Nobody waits for what the runtime refuses again and again: the list of all pods shows it later as an orphan.
  void remove(Action action) {
    const auto failure = history_.failures.find(end_key(action));
    if (failure != history_.failures.end() && failure->second.count >= kEndTries) return;
    plan_.gone = false;
    tidy(std::move(action));
  }

  // Terminal: containers stay for their logs and status, the network goes.
  void settle() {
    if (kill_all("Completed")) stop_sandboxes();
  }

  void keep() {
    for (const ContainerView& container : view_.containers) {
      if (never_started(container)) tidy({.what = Do::kRemoveContainer, .id = container.id});
    }
    if (!plan_.actions.empty()) return;
    const SandboxView* sandbox = view_.sandbox();
    if (sandbox == nullptr || !sandbox->ready) return renew_sandbox(sandbox);
    for (const ContainerView& container : view_.containers) {
      if (container.sandbox_id != sandbox->id && alive(container)) kill(container, "SandboxChanged");
    }
    if (ends_ || !volumes()) return;
    if (!initialized(spec_, view_, history_)) {
      next_init(*sandbox);
    } else {
      for (const k8s::Container* container : lasting_containers(spec_)) run_container(*container, *sandbox);
    }
    remove_old();
  }

  bool volumes() {
    if (history_.volumes_ready) return true;
    if (due(kVolumesKey)) add({.what = Do::kSetUpVolumes});
    return false;
  }

  void renew_sandbox(const SandboxView* dead) {
    if (!kill_all("SandboxChanged")) return;
    // The one before the last stays until it is replaced: its attempt is what the next is counted from.
    for (const SandboxView& sandbox : view_.sandboxes) {
      if (&sandbox != dead) tidy({.what = Do::kRemoveSandbox, .id = sandbox.id});
    }
    if (!plan_.actions.empty() || !volumes() || !due(kSandboxKey)) return;
    Action action{.what = Do::kCreateSandbox};
    if (dead != nullptr) {
      action.id = dead->id;
      action.attempt = dead->attempt + 1;
    }
    action.attempt = std::max(action.attempt, history_.next_attempt);
    add(std::move(action));
  }

  // The first one that is not done; before it the sidecars that go on already.
  void next_init(const SandboxView& sandbox) {
    const auto here = [&](const k8s::Container& container) {
      const ContainerView* last = view_.latest(container.name());
      return last != nullptr && last->sandbox_id == sandbox.id ? last : nullptr;
    };
    int furthest = 0;  // a sidecar that fell behind it had started once: it holds up nobody
    for (int i = 0; i < spec_.initcontainers_size(); ++i) {
      if (here(spec_.initcontainers(i)) != nullptr) furthest = i;
    }
    for (int i = 0; i < spec_.initcontainers_size(); ++i) {
      const auto& container = spec_.initcontainers(i);
      const ContainerView* last = here(container);
      if (is_sidecar(spec_, container.name())) {
        run_container(container, sandbox, true);
        if (i >= furthest && (last == nullptr || !has_started(container, *last, history_))) return;
      } else if (last == nullptr || last->state != RunState::kExited || last->exit_code != 0) {
        return run_container(container, sandbox, true);
      }
    }
  }

  void run_container(const k8s::Container& container, const SandboxView& sandbox, bool init = false) {
    const ContainerView* last = view_.latest(container.name());
    if (last == nullptr) return create(container, nullptr);
    const bool once = never(spec_) && !is_sidecar(spec_, container.name());
    switch (last->state) {
      case RunState::kRunning:
        if (history_.unhealthy.contains(last->id)) {
          kill(*last, "Unhealthy");
        } else if (last->hash != container_hash(container) && !once) {
          kill(*last, "Changed");
        }
        return;
      case RunState::kUnknown:
        return kill(*last, "Unknown");
      case RunState::kCreated:
        if (last->sandbox_id != sandbox.id) return create(container, last);
        if (due(container.name())) add({.what = Do::kStartContainer, .name = last->name, .id = last->id});
        return;
      case RunState::kExited:
        break;
    }
    const bool again_in_new_sandbox = init && last->sandbox_id != sandbox.id;
    const bool changed = last->hash != container_hash(container) && !once;
    if (again_in_new_sandbox || changed || never_started(*last)) return create(container, last);
    if (restarts(spec_, *last) && due(restart_time(*last))) create(container, last);
  }

  void create(const k8s::Container& container, const ContainerView* last) {
    if (!due(container.name())) return;
    Action action{.what = Do::kCreateContainer, .name = container.name()};
    if (last != nullptr) {
      action.attempt = last->attempt + 1;
      action.streak = long_run(*last) ? 0 : last->streak + 1;
    }
    add(std::move(action));
  }

  // Of each name the last two stay: the state and the last state; and dead sandboxes that nothing is left in go.
  void remove_old() {
    for (const ContainerView& container : view_.containers) {
      const ContainerView* last = view_.latest(container.name);
      const ContainerView* before = view_.latest(container.name, last->attempt);
      if (&container != last && &container != before && !alive(container)) {
        tidy({.what = Do::kRemoveContainer, .id = container.id});
      }
    }
    for (const SandboxView& sandbox : view_.sandboxes) {
      const bool used = std::ranges::any_of(
          view_.containers, [&](const ContainerView& container) { return container.sandbox_id == sandbox.id; });
      if (&sandbox != view_.sandbox() && !used) tidy({.what = Do::kRemoveSandbox, .id = sandbox.id});
    }
  }

  const k8s::PodSpec& spec_;
  const PodRuntimeView& view_;
  const PodHistory& history_;
  WallTime now_;
  Plan plan_;
  bool ends_ = false;  // something is to be ended before anything else
};

}  // namespace

Plan plan_pod_actions(const k8s::PodSpec& spec, const PodRuntimeView& view, const PodHistory& history, WallTime now) {
  return Planner(spec, view, history, now).run();
}

const SandboxView* PodRuntimeView::sandbox() const {
  const auto at = std::ranges::max_element(sandboxes, {}, &SandboxView::attempt);
  return at == sandboxes.end() ? nullptr : &*at;
}

const ContainerView* PodRuntimeView::latest(const std::string& name, std::optional<std::uint32_t> before) const {
  const ContainerView* found = nullptr;
  for (const ContainerView& container : containers) {
    if (container.name != name || (before && container.attempt >= *before)) continue;
    if (found == nullptr || container.attempt > found->attempt) found = &container;
  }
  return found;
}

bool never_started(const ContainerView& container) {
  return container.state == RunState::kExited && container.started == WallTime{} &&
         container.message.find("context canceled") != std::string::npos;
}

bool restarts(const k8s::PodSpec& spec, const ContainerView& exited) {
  if (is_sidecar(spec, exited.name)) return true;
  if (never(spec)) return false;
  return spec.restartpolicy() != "OnFailure" || exited.exit_code != 0;
}

Duration crash_delay(const ContainerView& exited) {
  return long_run(exited) || exited.streak == 0 ? Duration{} : kBackoff.delay(exited.streak);
}

std::string end_key(const Action& action) {
  switch (action.what) {
    case Do::kKillContainer:
    case Do::kStopSandbox:
    case Do::kTearDown:
    case Do::kRemoveContainer:
    case Do::kRemoveSandbox:
      return kEndPrefix + action.id;
    default:
      return {};
  }
}

Duration retry_delay(std::string_view what, unsigned failures) {
  if (what.starts_with(kEndPrefix)) return kEndAgain.delay(failures);
  return what == kSandboxKey || what == kVolumesKey ? kSyncAgain : kBackoff.delay(failures);
}

WallTime restart_time(const ContainerView& exited) {
  return exited.finished + std::chrono::duration_cast<WallTime::duration>(crash_delay(exited));
}

bool has_started(const k8s::Container& container, const ContainerView& view, const PodHistory& history) {
  if (view.state != RunState::kRunning) return false;
  const auto probed = history.started.find(view.id);
  return !container.has_startupprobe() || (probed != history.started.end() && probed->second);
}

bool initialized(const k8s::PodSpec& spec, const PodRuntimeView& view, const PodHistory& history) {
  const SandboxView* sandbox = view.sandbox();
  if (sandbox == nullptr) return false;
  const auto here = [&](const std::string& name) {
    const ContainerView* last = view.latest(name);
    return last != nullptr && last->sandbox_id == sandbox->id ? last : nullptr;
  };
  if (std::ranges::any_of(spec.containers(), [&](const auto& container) { return here(container.name()); })) {
    return true;
  }
  return std::ranges::all_of(spec.initcontainers(), [&](const auto& container) {
    const ContainerView* last = here(container.name());
    if (last != nullptr && is_sidecar(spec, container.name())) return has_started(container, *last, history);
    return last != nullptr && last->state == RunState::kExited && last->exit_code == 0;
  });
}

Outcome pod_outcome(const k8s::PodSpec& spec, const PodRuntimeView& view, const PodHistory& history) {
  if (history.over) return Outcome::kSucceeded;  // or failed: it is told already
  if (history.refused) return Outcome::kFailed;
  if (spec.restartpolicy() != "OnFailure" && !never(spec)) return Outcome::kOpen;
  if (never(spec)) {
    for (const auto& init : spec.initcontainers()) {
      if (is_sidecar(spec, init.name())) continue;
      const ContainerView* last = view.latest(init.name());
      const bool exited = last != nullptr && last->state == RunState::kExited && !never_started(*last);
      if (exited && last->exit_code != 0) return Outcome::kFailed;
    }
  }
  // With Never, what ran in a sandbox that died is not run again; what had not run by then never does.
  const SandboxView* sandbox = view.sandbox();
  const bool closed = never(spec) && sandbox != nullptr && !sandbox->ready && !view.containers.empty();
  bool failed = false;
  for (const auto& container : spec.containers()) {
    const ContainerView* last = view.latest(container.name());
    const bool unstarted = last == nullptr || last->state == RunState::kCreated || never_started(*last);
    const bool exited = !unstarted && last->state == RunState::kExited;
    if (!exited && !(unstarted && closed)) return Outcome::kOpen;
    if (exited && restarts(spec, *last)) return Outcome::kOpen;
    failed |= !exited || last->exit_code != 0;
  }
  return failed ? Outcome::kFailed : Outcome::kSucceeded;
}

std::string container_hash(const k8s::Container& container) {
  std::uint64_t hash = 14695981039346656037ULL;  // FNV-1a
  for (const std::string* text : {&container.name(), &container.image()}) {
    for (const char c : *text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    hash *= 1099511628211ULL;  // a zero byte ends each text
  }
  return fmt::format("{:x}", hash);
}

}  // namespace fairlead::pods
