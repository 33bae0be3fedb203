// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/keeper.h"

#include <algorithm>
#include <fstream>

#include "agent/base/log.h"
#include "agent/base/reconciler.h"
#include "agent/kube/codec/text.h"
#include "agent/kube/codec/time.h"
#include "agent/kube/fields/fields.h"
#include "agent/pods/cri_config.h"
#include "agent/pods/plan.h"
#include "agent/pods/status.h"

namespace fairlead::pods {
namespace {

constexpr std::size_t kMessageLimit = 4096;               // bytes of a termination message
constexpr std::size_t kLogTailLimit = 2048;               // bytes of a log that stands in for one
constexpr Duration kOwnAction = std::chrono::seconds(1);  // so long it may itself be what an event tells of
constexpr Backoff kLookAgain{.first = std::chrono::milliseconds(250), .limit = std::chrono::seconds(5)};

std::shared_ptr<const k8s::Pod> orphaned_pod(const std::string& uid, const ListedPod& listed) {
  auto pod = std::make_shared<k8s::Pod>();
  pod->mutable_metadata()->set_uid(uid);
  pod->mutable_metadata()->set_namespace_(listed.ns);
  pod->mutable_metadata()->set_name(listed.name);
  pod->mutable_spec()->set_terminationgraceperiodseconds(listed.grace_s);
  return pod;
}

// Why this pod must never run, or nothing.
std::optional<Failure> refusal(const k8s::Pod& pod) {
  const auto report = kube::check_pod_fields(pod);
  if (!report.refused.empty()) return Failure{.reason = "UnsupportedField", .message = report.refused.front().str()};
  const auto unsupported = [](const k8s::Container& container, const Error& error) {
    return Failure{.reason = "UnsupportedProbe",
                   .message = fmt::format("container {}: {}", container.name(), error.message())};
  };
  for (const k8s::Container* lasting : lasting_containers(pod.spec())) {
    const k8s::Container& container = *lasting;
    for (const auto* probe : {container.has_livenessprobe() ? &container.livenessprobe() : nullptr,
                              container.has_readinessprobe() ? &container.readinessprobe() : nullptr,
                              container.has_startupprobe() ? &container.startupprobe() : nullptr}) {
      if (probe == nullptr) continue;
      if (const auto spec = make_probe_spec(*probe, container, IpAddress()); !spec) {
        return unsupported(container, spec.error());
      }
    }
    const auto& lifecycle = container.lifecycle();
    for (const auto* hook : {lifecycle.has_poststart() ? &lifecycle.poststart() : nullptr,
                             lifecycle.has_prestop() ? &lifecycle.prestop() : nullptr}) {
      if (hook == nullptr) continue;
      if (const auto able = check_hook(*hook, container); !able) return unsupported(container, able.error());
    }
  }
  return {};
}

bool is_over(const k8s::PodStatus& status) {
  return status.phase() == "Succeeded" || status.phase() == "Failed";
}

// Whether the downward API reads the same of both.
bool same_metadata(const k8s::ObjectMeta& a, const k8s::ObjectMeta& b) {
  const auto same = [](const auto& one, const auto& other) {
    return one.size() == other.size() && std::ranges::all_of(one, [&](const auto& pair) {
             const auto at = other.find(pair.first);
             return at != other.end() && at->second == pair.second;
           });
  };
  return same(a.labels(), b.labels()) && same(a.annotations(), b.annotations());
}

// The last `limit` bytes of a file; empty where it cannot be read.
std::string tail_of(const std::string& path, std::size_t limit) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return {};
  const auto size = static_cast<std::size_t>(in.tellg());
  std::string text(std::min(size, limit), '\0');
  in.seekg(static_cast<std::streamoff>(size - text.size()));
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  return text;
}

}  // namespace

Keeper::Keeper(KeeperContext& context, const model::Pod& desired, bool unknown, Notices notices)
    : context_(context),
      id_(desired.id),
      source_(desired.source),
      notices_(std::move(notices)),
      worker_(context.worker, desired.object, [this](const Change& change) { look(change); }),
      seen_(unknown),
      status_(desired.object->status()),
      wanted_since_(context.worker.clock.now()) {
  context_.host_ports.enter(id_.uid, *desired.object);
  history().over = is_over(status_);
  if (const auto why = history().over ? std::nullopt : refusal(*desired.object)) refuse(*why);
  desire(desired);
}

Keeper::Keeper(KeeperContext& context, const std::string& uid, const ListedPod& orphan, Notices notices)
    : context_(context),
      id_{orphan.ns, orphan.name, uid},
      orphan_(true),
      notices_(std::move(notices)),
      worker_(context.worker, orphaned_pod(uid, orphan), [this](const Change& change) { look(change); }) {
  log::info("pods", "ending what nobody wants any more", {{"pod", id_.key()}, {"uid", uid}});
  end();
}

Keeper::~Keeper() {
  context_.host_ports.leave(id_.uid);
  for (const k8s::Container* container : lasting_containers(pod().spec())) {
    context_.prober.remove(id_.uid, container->name());
  }
}

void Keeper::desire(const model::Pod& desired) {
  const auto before = worker_.shared_pod();
  worker_.set_pod(desired.object);
  if (has_volumes() && !same_metadata(before->metadata(), desired.object->metadata())) {
    context_.worker.volumes.refresh(pod());
  }
  if (desired.deletion_grace_s) return end(desired.deletion_grace_s);
  if (!seen_) return look();
  step();
}

void Keeper::end(std::optional<std::int64_t> grace_s) {
  const auto& spec = pod().spec();
  const std::int64_t own = spec.has_terminationgraceperiodseconds() ? spec.terminationgraceperiodseconds() : 30;
  const std::int64_t grace = grace_s.value_or(own);
  // A grace period may be cut short, never drawn out.
  const std::int64_t given = std::min(history().ending_grace_s.value_or(grace), grace);
  const bool news = history().ending_grace_s != given;
  if (!history().ending_grace_s) {
    history().ending_since = context_.worker.clock.wall();
    if (auto noted = context_.worker.files.write(ending_mark(context_.worker.node, id_.uid), "ending\n"); !noted) {
      log::warn("pods", "an end is not noted for the next agent", {{"pod", id_.key()}, {"error", noted.error()}});
    }
  }
  history().ending_grace_s = given;
  if (news) worker_.hurry(given);
  if (!seen_) return look();
  step();
}

void Keeper::look(const Change& change) {
  if (!looks_.begin()) return;
  look_timer_.cancel();
  if (change.what == Change::Of::kAnything) news_ = {};
  if (auto view = with_news(view_, change, news_)) return looked(std::move(*view));
  looking_for_ = change;
  context_.reader.read(id_.uid, view_, change,
                       [this, number = ++look_number_, alive = std::weak_ptr(alive_)](Result<PodRuntimeView> view) {
                         if (!alive.expired() && number == look_number_) looked(std::move(view));
                       });
}

void Keeper::looked(Result<PodRuntimeView> view) {
  const bool again = looks_.end();
  if (!view) {
    log::warn("pods", "the runtime does not tell", {{"pod", id_.key()}, {"error", view.error()}});
    look_timer_ = context_.worker.loop.after(kLookAgain.delay(++blind_looks_), [this] { look(); });
    return;
  }
  blind_looks_ = 0;
  forget_all_but(*view);
  view_ = std::move(*view);
  read_messages();
  seen_ = true;
  step();
  notices_.looked();
  if (again) return look();
  heed_news();
}

void Keeper::told(PodRuntimeView sandbox) {
  news_ = std::move(sandbox);
  if (!looks_.running()) return heed_news();
  if (auto view = with_news(view_, looking_for_, news_)) {
    ++look_number_;
    looked(std::move(*view));
  }
}

// Most of what events tell is what this agent has just done, and the end of each action is looked at anyway.
void Keeper::heed_news() {
  if (news_.sandboxes.empty() || looks_.running()) return;
  if (fingerprint(part_of(view_, news_.sandboxes.front().id)) == fingerprint(news_)) {
    news_ = {};
  } else if (!worker_.busy()) {
    look();
  } else if (!look_timer_) {
    look_timer_ = context_.worker.loop.after(kOwnAction, [this] { look(); });
  }
}

// What is remembered by container id goes with the container.
void Keeper::forget_all_but(const PodRuntimeView& view) {
  for (const ContainerView& known : view_.containers) {
    if (std::ranges::find(view.containers, known.id, &ContainerView::id) != view.containers.end()) continue;
    ready_.erase(known.id);
    history().started.erase(known.id);
    history().unhealthy.erase(known.id);
    context_.readiness.set(known.id, false);
    context_.readiness.set_started(known.id, false);
  }
}

void Keeper::listed(const PodRuntimeView* view) {
  if (seen_ && fingerprint(view == nullptr ? PodRuntimeView() : *view) != fingerprint(view_)) look();
}

void Keeper::applied(Revision revision) {
  applied_ = revision;
  if (seen_ && drain_patience_ && !drain_until_) step();
}

void Keeper::retry_now() {
  for (auto& [key, failure] : history().failures) failure.until = {};
  if (seen_) step();
}

// The pod will never run.
void Keeper::refuse(const Failure& why) {
  log::warn("pods", "pod is refused", {{"pod", id_.key()}, {"reason", why.message}});
  context_.worker.events.warning(pod(), why.reason, why.message);
  history().refused = why;
}

// When the pod has been active for as long as it may be; nullopt: it may be for ever, or is over.
std::optional<WallTime> Keeper::deadline() const {
  const auto& spec = pod().spec();
  if (!spec.has_activedeadlineseconds() || !status_.has_starttime() || ending() ||
      pod_outcome(spec, view_, history()) != Outcome::kOpen) {
    return {};
  }
  return WallTime(std::chrono::seconds(status_.starttime().seconds() + spec.activedeadlineseconds()));
}

void Keeper::step() {
  const bool may_act = admitted();  // or it is refused, which is told
  probe();
  tell();
  if (const auto until = deadline(); until && *until <= context_.worker.clock.wall()) {
    history().refused = {.reason = "DeadlineExceeded",
                         .message = "Pod was active on the node longer than the specified deadline"};
    context_.worker.events.normal(pod(), history().refused->reason, history().refused->message);
    tell();
  }
  if (may_act) act();
}

// False while it is open whether the pod gets its host ports.
bool Keeper::admitted() {
  const bool ran = !view_.sandboxes.empty();
  const bool ended = pod_outcome(pod().spec(), view_, history()) != Outcome::kOpen;
  if (ended || (ending() && !ran)) {
    context_.host_ports.leave(id_.uid);
    return true;
  }
  const auto verdict = context_.host_ports.ask(id_.uid, ran, [this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) step();
  });
  if (verdict.answer == HostPortAdmission::Answer::kRefused) {
    refuse({.reason = "NodePorts",
            .message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports: " +
                       verdict.why});
    history().refused->message = "Pod was rejected: " + history().refused->message;
  }
  return verdict.answer != HostPortAdmission::Answer::kWait;
}

void Keeper::act() {
  if (worker_.busy() || looks_.running()) return;  // the end of either plans anew
  const Plan plan = plan_pod_actions(pod().spec(), view_, history(), context_.worker.clock.wall());
  timer_.cancel();
  if (plan.gone) return finish();
  const auto until = deadline();
  if (plan.wake || until) wake_at(std::min(plan.wake.value_or(WallTime::max()), until.value_or(WallTime::max())));
  if (plan.actions.empty()) return;
  if (ending() && plan.actions.front().what == Do::kKillContainer && !drained()) return;
  worker_.begin(plan, view_);
}

void Keeper::wake_at(WallTime time) {
  const auto wait = std::max(time - context_.worker.clock.wall(), WallTime::duration::zero());
  timer_ = context_.worker.loop.after(wait + std::chrono::milliseconds(1), [this] { step(); });
}

// A deletion's order: the pod is terminating in the maps, connects in flight settle, then SIGTERM. True once it may go.
bool Keeper::drained() {
  if (!row_) return true;  // no Service ever saw it
  const TimePoint now = context_.worker.clock.now();
  if (!drain_patience_) drain_patience_ = now + context_.drain_patience;
  if (!drain_until_) {
    if (applied_ < row_revision_ && now < *drain_patience_) {
      drain_timer_ = context_.worker.loop.after(*drain_patience_ - now, [this] { step(); });
      return false;
    }
    if (applied_ < row_revision_) {
      context_.drain_timeouts.Increment();
      log::warn("pods", "ends before the Service maps say so: they were not written in time", {{"pod", id_.key()}});
    }
    drain_until_ = now + context_.drain_delay;
  }
  if (now >= *drain_until_) return true;
  drain_timer_ = context_.worker.loop.after(*drain_until_ - now, [this] { step(); });
  return false;
}

void Keeper::probe() {
  const auto addresses = ips();
  for (const k8s::Container* lasting : lasting_containers(pod().spec())) {
    const k8s::Container& container = *lasting;
    const ContainerView* last = view_.latest(container.name());
    const bool running = last != nullptr && last->state == RunState::kRunning;
    if (!running || addresses.empty() || ending()) {
      context_.prober.remove(id_.uid, container.name());
      if (last != nullptr && !running) {
        context_.readiness.set(last->id, false);
        context_.readiness.set_started(last->id, false);
      }
      continue;
    }
    ProbedContainer probed{.uid = id_.uid, .name = container.name(), .id = last->id, .started = last->started};
    const auto spec = [&](bool has, const k8s::Probe& probe) -> std::optional<ProbeSpec> {
      if (!has) return {};
      auto made = make_probe_spec(probe, container, addresses.front());
      return made ? std::optional(std::move(*made)) : std::nullopt;  // refusal() saw to it that it can be made
    };
    probed.liveness = spec(container.has_livenessprobe(), container.livenessprobe());
    probed.readiness = spec(container.has_readinessprobe(), container.readinessprobe());
    probed.startup = spec(container.has_startupprobe(), container.startupprobe());
    if (!probed.liveness && !probed.readiness && !probed.startup) continue;
    context_.readiness.adopt(last->id, last->started);
    probed.was_started = !probed.startup || context_.readiness.was_started(last->id);
    probed.was_ready = context_.readiness.was_ready(last->id);
    if (probed.startup) history().started.try_emplace(last->id, probed.was_started);
    if (probed.readiness) ready_.try_emplace(last->id, probed.was_ready);
    context_.prober.set(
        std::move(probed), [this](const ProbeResult& result) { this->probed(result); },
        [this, name = container.name()](ProbeKind kind, const std::string& message) {
          context_.worker.events.warning(pod(), "Unhealthy",
                                         fmt::format("{} probe failed: {}", to_string(kind), message), name);
        });
  }
}

void Keeper::probed(const ProbeResult& result) {
  log::info("pods", result.success ? "probe succeeds" : "probe fails",
            {{"pod", id_.key()},
             {"container", result.container},
             {"probe", to_string(result.kind)},
             {"message", result.message}});
  if (result.kind == ProbeKind::kReadiness) {
    ready_[result.container_id] = result.success;
    context_.readiness.set(result.container_id, result.success);
  } else if (!result.success) {
    history().unhealthy[result.container_id] =
        result.kind == ProbeKind::kStartup ? "failed startup probe" : "failed liveness probe";
  } else if (result.kind == ProbeKind::kStartup) {
    history().started[result.container_id] = true;
    context_.readiness.set_started(result.container_id, true);
  }
  step();
}

std::vector<IpAddress> Keeper::ips() const {
  const SandboxView* sandbox = view_.sandbox();
  if (sandbox == nullptr || !sandbox->ready) return {};
  return pod().spec().hostnetwork() ? context_.worker.node_ips : sandbox->ips;
}

model::LocalPod Keeper::local_pod(const k8s::PodStatus& status) const {
  model::LocalPod row{.id = id_, .ips = ips(), .host_network = pod().spec().hostnetwork()};
  for (const auto& [key, value] : pod().metadata().labels()) row.labels.emplace(key, value);
  for (const k8s::Container* container : lasting_containers(pod().spec())) {
    for (const auto& port : container->ports()) {
      const auto protocol = parse_protocol(port.protocol());
      if (port.name().empty() || !protocol) continue;
      row.named_ports.emplace(port.name(), std::pair(static_cast<std::uint16_t>(port.containerport()), *protocol));
    }
  }
  row.terminating = ending();
  row.serving = condition(status, "Ready");
  row.ready = row.serving && !row.terminating;
  row.terminal = is_over(status);
  return row;
}

void Keeper::tell() {
  if (orphan_) return;
  // What is torn down is removed from the runtime: its last words stand.
  k8s::PodStatus status = history().torn_down || history().over
                              ? status_
                              : compute_status({.pod = pod(),
                                                .view = view_,
                                                .history = history(),
                                                .ready = ready_,
                                                .node_ips = context_.worker.node_ips,
                                                .last = status_.has_phase() ? &status_ : nullptr,
                                                .runtime_name = context_.runtime_name,
                                                .now = context_.worker.clock.wall()});
  model::LocalPod row = local_pod(status);
  if (row_ != row) {
    row_ = row;
    row_revision_ = context_.local_pods.upsert(id_.uid, std::move(row));
  }
  if (status.SerializeAsString() == status_.SerializeAsString()) return;
  tell_of_back_off(status);
  status_ = std::move(status);
  context_.statuses.send({.id = id_, .status = std::make_shared<const k8s::PodStatus>(status_), .source = source_});
  if (wanted_since_ && condition(status_, "Ready")) {
    const auto took = context_.worker.clock.now() - *std::exchange(wanted_since_, std::nullopt);
    context_.start_seconds.Observe(std::chrono::duration<double>(took).count());
  }
}

// An event for each container that begins to wait for its next start.
void Keeper::tell_of_back_off(const k8s::PodStatus& status) {
  const auto look = [&](const auto& now, const auto& before) {
    for (const auto& container : now) {
      if (container.state().waiting().reason() != "CrashLoopBackOff") continue;
      const auto at = std::ranges::find(before, container.name(), [](const auto& one) { return one.name(); });
      if (at != before.end() && at->state().waiting().reason() == "CrashLoopBackOff") continue;
      context_.worker.events.warning(pod(), "BackOff",
                                     fmt::format("Back-off restarting failed container {} in pod {}_{}({})",
                                                 container.name(), id_.name, id_.ns, id_.uid),
                                     container.name());
    }
  };
  look(status.initcontainerstatuses(), status_.initcontainerstatuses());
  look(status.containerstatuses(), status_.containerstatuses());
}

// What a container left to say at its end, as its spec says where.
void Keeper::read_messages() {
  for (ContainerView& view : view_.containers) {
    if (view.state != RunState::kExited || !view.message.empty()) continue;
    const k8s::Container* container = find_container(pod().spec(), view.name);
    if (container == nullptr) continue;
    const NodeFacts& node = context_.worker.node;
    view.message = tail_of(message_path(node, id_.uid, view.name, view.attempt), kMessageLimit);
    if (view.message.empty() && view.exit_code != 0 &&
        container->terminationmessagepolicy() == "FallbackToLogsOnError") {
      view.message =
          tail_of(fmt::format("{}/{}/{}.log", log_directory(node, pod()), view.name, view.attempt), kLogTailLimit);
    }
  }
}

void Keeper::finish() {
  if (!orphan_) {
    context_.local_pods.erase(id_.uid);
    context_.statuses.send(
        {.id = id_, .status = std::make_shared<const k8s::PodStatus>(status_), .source = source_, .finished = true});
  }
  if (in_runtime()) {
    log::warn("pods", "the pod is over, but the runtime does not remove all of it",
              {{"pod", id_.key()}, {"uid", id_.uid}});
  } else {
    log::info("pods", "nothing is left of the pod", {{"pod", id_.key()}, {"uid", id_.uid}});
  }
  // The owner destroys this keeper: not while one of its own calls is on the stack. Told once: a second word would
  // reach the keeper that follows under the same uid.
  context_.worker.loop.post([gone = std::exchange(notices_.gone, [] {})] { gone(); });
}

unsigned Keeper::running_containers() const {
  return static_cast<unsigned>(std::ranges::count(view_.containers, RunState::kRunning, &ContainerView::state));
}

Json Keeper::summary() const {
  unsigned ready = 0;
  std::int64_t restarts = 0;
  std::string reason = status_.reason().empty() ? status_.phase() : status_.reason();
  const auto count = [&](const k8s::ContainerStatus& container) {
    ready += container.ready() ? 1 : 0;
    restarts += container.restartcount();
    if (container.state().has_waiting()) reason = container.state().waiting().reason();
  };
  for (const auto& container : status_.initcontainerstatuses()) {
    if (is_sidecar(pod().spec(), container.name())) count(container);
  }
  for (const auto& container : status_.containerstatuses()) count(container);
  if (ending()) reason = "Terminating";
  Json addresses = Json::array();
  for (const auto& ip : status_.podips()) addresses.push_back(ip.ip());
  return {{"namespace", id_.ns},
          {"name", id_.name},
          {"uid", id_.uid},
          {"ready", fmt::format("{}/{}", ready, lasting_containers(pod().spec()).size())},
          {"status", reason.empty() ? "Unknown" : reason},
          {"phase", status_.phase()},
          {"restarts", restarts},
          {"ips", std::move(addresses)},
          {"orphan", orphan_}};
}

Json Keeper::details() const {
  Json all = summary();
  all["source"] = source_;
  all["object_status"] = kube::to_json(status_);
  Json failures = Json::object();
  for (const auto& [what, failure] : history().failures) failures[what] = failure.reason + ": " + failure.message;
  all["failures"] = std::move(failures);
  if (history().refused) all["refused"] = history().refused->message;
  Json sandboxes = Json::array();
  for (const SandboxView& sandbox : view_.sandboxes) {
    sandboxes.push_back({{"id", sandbox.id}, {"attempt", sandbox.attempt}, {"ready", sandbox.ready}});
  }
  all["sandboxes"] = std::move(sandboxes);
  return all;
}

}  // namespace fairlead::pods
