// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/probes/prober.h"

#include "agent/base/log.h"
#include "agent/pods/probes/socket_attempt.h"

namespace fairlead::pods {

namespace {

using namespace std::chrono_literals;

std::string exec_failure(const cri::api::ExecSyncResponse& response) {
  constexpr std::size_t kMaxOutput = 1024;
  return fmt::format("command exited with {}: {}", response.exit_code(),
                     (response.stdout() + response.stderr()).substr(0, kMaxOutput));
}

}  // namespace

std::string_view to_string(ProbeKind kind) {
  switch (kind) {
    case ProbeKind::kStartup:
      return "Startup";
    case ProbeKind::kLiveness:
      return "Liveness";
    case ProbeKind::kReadiness:
      return "Readiness";
  }
  return "Unknown";
}

struct Prober::Entry {
  ProbedContainer container;
  OnResult on_result;
  OnFailure on_failure;
  std::array<std::shared_ptr<Probe>, 3> probes;  // by ProbeKind; null: none
};

struct Prober::Probe {
  std::weak_ptr<Entry> entry;
  ProbeKind kind;
  ProbeSpec spec;
  ProbeState state;
  TimePoint began;     // the attempt that runs, or the last one
  Subscription timer;  // until the next attempt
  std::unique_ptr<SocketAttempt> socket;
};

Prober::Prober(Loop& loop, const Clock& clock, cri::Runtime& runtime, health::Checker& health,
               metrics::Registry& registry)
    : loop_(loop),
      clock_(clock),
      runtime_(runtime),
      health_(health),
      random_(std::random_device{}()),
      alive_(std::make_shared<Prober*>(this)) {
  for (const auto kind : {ProbeKind::kStartup, ProbeKind::kLiveness, ProbeKind::kReadiness}) {
    const auto total = [&](const char* result) {
      return &metrics::counter(registry, "prober_probe_total", "Attempts of container probes",
                               {{"probe_type", std::string(to_string(kind))}, {"result", result}});
    };
    meters_.at(static_cast<std::size_t>(kind)) = {
        total("successful"), total("failed"), total("unknown"),
        &metrics::seconds_histogram(registry, "prober_probe_duration_seconds", "Duration of container probes",
                                    {{"probe_type", std::string(to_string(kind))}})};
  }
}

Prober::~Prober() = default;

void Prober::set(ProbedContainer container, OnResult on_result, OnFailure on_failure) {
  auto& slot = entries_[{container.uid, container.name}];
  if (slot && slot->container.id == container.id && slot->container.startup == container.startup &&
      slot->container.liveness == container.liveness && slot->container.readiness == container.readiness) {
    return;
  }
  const auto entry =
      std::make_shared<Entry>(Entry{std::move(container), std::move(on_result), std::move(on_failure), {}});
  slot = entry;
  const ProbedContainer& of = entry->container;
  const auto add = [&](ProbeKind kind, const std::optional<ProbeSpec>& spec, std::optional<bool> known) {
    if (!spec) return;
    auto probe = std::make_shared<Probe>(entry, kind, *spec, ProbeState{known, {}, 0}, TimePoint(), Subscription(),
                                         std::unique_ptr<SocketAttempt>());
    entry->probes.at(static_cast<std::size_t>(kind)) = std::move(probe);
  };
  const bool starting = of.startup && !of.was_started;
  if (starting) add(ProbeKind::kStartup, of.startup, {});
  add(ProbeKind::kLiveness, of.liveness, true);
  add(ProbeKind::kReadiness, of.readiness, of.was_ready);
  const double random = std::uniform_real_distribution()(random_);
  for (const auto& probe : entry->probes) {
    if (probe && (!starting || probe->kind == ProbeKind::kStartup)) begin(probe, random);
  }
}

void Prober::remove(const std::string& uid, const std::string& name) {
  entries_.erase({uid, name});
}

void Prober::begin(const std::shared_ptr<Probe>& probe, double random) {
  const auto running_for = clock_.wall() - probe->entry.lock()->container.started;
  probe->timer = loop_.after(first_delay(probe->spec, running_for, random),
                             [this, weak = std::weak_ptr(probe)] { attempt(weak.lock()); });
}

void Prober::attempt(const std::shared_ptr<Probe>& probe) {
  probe->began = clock_.now();
  const auto* http = std::get_if<HttpGet>(&probe->spec.action);
  const auto* tcp = std::get_if<TcpConnect>(&probe->spec.action);
  if (const auto* grpc = std::get_if<GrpcCheck>(&probe->spec.action)) return ask_health(probe, *grpc);
  if (http == nullptr && tcp == nullptr) {
    waiting_execs_.push_back(probe);
    return next_exec();
  }
  auto done = [this, weak = std::weak_ptr(probe)](Attempt result) {
    ended(weak.lock(), result.success, std::move(result.message));
  };
  probe->socket = http != nullptr ? std::make_unique<SocketAttempt>(loop_, *http, probe->spec.timeout, std::move(done))
                                  : std::make_unique<SocketAttempt>(loop_, *tcp, probe->spec.timeout, std::move(done));
}

void Prober::next_exec() {
  while (execs_ < kExecLimit && !waiting_execs_.empty()) {
    const auto probe = waiting_execs_.front().lock();
    waiting_execs_.pop_front();
    if (probe) exec(probe);
  }
}

void Prober::exec(const std::shared_ptr<Probe>& probe) {
  ++execs_;
  probe->began = clock_.now();
  cri::api::ExecSyncRequest request;
  request.set_container_id(probe->entry.lock()->container.id);
  for (const auto& word : std::get<ExecCommand>(probe->spec.action).command) request.add_cmd(word);
  request.set_timeout(std::chrono::ceil<std::chrono::seconds>(probe->spec.timeout).count());
  // The runtime ends the command at its timeout; the call's deadline only guards against a runtime that hangs.
  runtime_.call(
      loop_, std::move(request), probe->spec.timeout + 2s,
      [alive = std::weak_ptr(alive_), weak = std::weak_ptr(probe)](Result<cri::api::ExecSyncResponse> result) {
        const auto self = alive.lock();
        if (!self) return;
        --(*self)->execs_;
        if (const auto target = weak.lock()) {
          if (result && result->exit_code() == 0) {
            (*self)->ended(target, true, {});
          } else if (result) {
            (*self)->ended(target, false, exec_failure(*result));
          } else if (result.error().code == Code::kTimeout) {
            (*self)->ended(target, false, "command timed out");
          } else {
            (*self)->ended(target, std::nullopt, result.error().message());
          }
        }
        (*self)->next_exec();
      });
}

void Prober::ask_health(const std::shared_ptr<Probe>& probe, const GrpcCheck& check) {
  health_.check({{check.address, check.port}, check.service, probe->spec.timeout},
                [alive = std::weak_ptr(alive_), weak = std::weak_ptr(probe)](const Result<>& result) {
                  const auto self = alive.lock();
                  const auto target = weak.lock();
                  if (!self || !target) return;
                  (*self)->ended(target, result.has_value(), result ? "" : result.error().message());
                });
}

void Prober::ended(const std::shared_ptr<Probe>& probe, std::optional<bool> success, std::string message) {
  const auto entry = probe->entry.lock();
  const TimePoint now = clock_.now();
  const Meters& meters = meters_.at(static_cast<std::size_t>(probe->kind));
  (!success ? meters.unknown : *success ? meters.success : meters.failure)->Increment();
  meters.seconds->Observe(std::chrono::duration<double>(now - probe->began).count());

  const auto before = probe->state.result;
  if (success) probe->state = step(probe->spec, probe->state, *success);
  const bool turned = probe->state.result != before;
  const bool restart = turned && !*probe->state.result && probe->kind != ProbeKind::kReadiness;
  const bool started = turned && *probe->state.result && probe->kind == ProbeKind::kStartup;
  if (success != true) {
    log::write(turned ? log::Level::kWarn : log::Level::kDebug, "probes",
               success ? "probe failed" : "probe could not be made",
               {{"uid", entry->container.uid},
                {"container", entry->container.name},
                {"probe", to_string(probe->kind)},
                {"turned", turned},
                {"reason", message}});
  }
  if (success == false && entry->on_failure) entry->on_failure(probe->kind, message);
  if (!restart && !started) {
    const Duration left = probe->began + probe->spec.period - now;
    probe->timer =
        loop_.after(std::max(left, Duration::zero()), [this, weak = std::weak_ptr(probe)] { attempt(weak.lock()); });
  }
  if (started) {
    for (const auto& other : entry->probes) {
      if (other && other != probe) begin(other, 0);
    }
  }
  // Last: it may remove the entry, or this whole object's other entries.
  if (turned) {
    entry->on_result({entry->container.uid, entry->container.name, entry->container.id, probe->kind,
                      *probe->state.result, std::move(message)});
  }
}

}  // namespace fairlead::pods
