// SPDX-License-Identifier: Apache-2.0
// Prober: startup, liveness and readiness probes of every container on the node.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/cri/runtime.h"
#include "agent/health/checker.h"
#include "agent/pods/probes/probe_spec.h"

namespace fairlead::pods {

enum class ProbeKind { kStartup, kLiveness, kReadiness };
std::string_view to_string(ProbeKind kind);  // as metrics and events name it: "Startup"

struct ProbedContainer {
  std::string uid;   // of the pod
  std::string name;  // of the container
  std::string id;    // of the running instance
  WallTime started;  // when it began to run
  std::optional<ProbeSpec> startup;
  std::optional<ProbeSpec> liveness;
  std::optional<ProbeSpec> readiness;
  // Adoption: what is known of it from before. Not started means that the startup probe has yet to succeed.
  bool was_started = false;
  bool was_ready = false;
};

// A probe's result turned. Until the first one a container with that probe is not ready, not started, but alive.
struct ProbeResult {
  std::string uid;
  std::string container;
  std::string container_id;
  ProbeKind kind = ProbeKind::kReadiness;
  bool success = false;  // false of liveness and startup: restart the container; they pause until it has another id
  std::string message;   // why it failed
};

// Owner: the pods domain. Thread: its loop. `on_result` runs on it and may call set() and remove(). Cost: a timer per
// probe, a socket while an attempt lasts; exec probes wait for one of kExecLimit places. Liveness and readiness begin
// when the startup probe, if there is one, has succeeded.
// Counts: prober_probe_total{probe_type,result}, prober_probe_duration_seconds{probe_type}.
class Prober {
 public:
  using OnResult = std::function<void(const ProbeResult&)>;
  // Each attempt that failed, whether or not it turned the result; may not call set() or remove().
  using OnFailure = std::function<void(ProbeKind, const std::string& message)>;
  static constexpr int kExecLimit = 10;

  // `runtime`, `health` and `clock` outlive it.
  Prober(Loop& loop, const Clock& clock, cri::Runtime& runtime, health::Checker& health, metrics::Registry& registry);
  ~Prober();
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;

  // Probes a container from now on, in place of what {uid, name} named before. The same id and specs again change
  // nothing.
  void set(ProbedContainer container, OnResult on_result, OnFailure on_failure = {});
  void remove(const std::string& uid, const std::string& name);
  std::size_t size() const { return entries_.size(); }

 private:
  struct Probe;
  struct Entry;
  struct Meters {
    prometheus::Counter* success;
    prometheus::Counter* failure;
    prometheus::Counter* unknown;
    prometheus::Histogram* seconds;
  };

  void begin(const std::shared_ptr<Probe>& probe, double random);
  void attempt(const std::shared_ptr<Probe>& probe);
  void exec(const std::shared_ptr<Probe>& probe);
  void ask_health(const std::shared_ptr<Probe>& probe, const GrpcCheck& check);
  void next_exec();
  // An attempt ended; success is nullopt where it says nothing of the container.
  void ended(const std::shared_ptr<Probe>& probe, std::optional<bool> success, std::string message);

  Loop& loop_;
  const Clock& clock_;
  cri::Runtime& runtime_;
  health::Checker& health_;
  std::array<Meters, 3> meters_;
  std::minstd_rand random_;
  std::map<std::pair<std::string, std::string>, std::shared_ptr<Entry>> entries_;
  int execs_ = 0;
  std::deque<std::weak_ptr<Probe>> waiting_execs_;
  std::shared_ptr<Prober*> alive_;  // answers of the runtime find it empty once this is gone
};

}  // namespace fairlead::pods
