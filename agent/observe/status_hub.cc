// SPDX-License-Identifier: Apache-2.0
#include "agent/observe/status_hub.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "agent/base/log.h"
#include "agent/base/timestamp.h"
#include "agent/base/version.h"

namespace fairlead::observe {
namespace {

constexpr const char* kModule = "observe";
constexpr const char* kProxy = "services";                    // the component that /healthz speaks of
constexpr auto kFirstLooks = std::chrono::milliseconds(100);  // until the agent serves
constexpr auto kLooks = std::chrono::seconds(5);
constexpr auto kStale = std::chrono::minutes(2);

double unix_seconds(WallTime time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

}  // namespace

// Answers of one round; told once all are in. Each module has a deadline, so a round ends.
struct StatusHub::Round {
  std::size_t awaited = 0;
  std::map<std::string, Result<Json>> answers;
  Done done;
};

StatusHub::StatusHub(Loop& loop, const Clock& clock, Deps deps)
    : loop_(loop),
      clock_(clock),
      deps_(std::move(deps)),
      ready_(
          metrics::gauge(deps_.registry, "fairlead_ready", "1 while the agent has adopted what was there and serves.")),
      memory_(metrics::gauge(deps_.registry, "process_resident_memory_bytes", "Resident memory of the agent.")),
      descriptors_(metrics::gauge(deps_.registry, "process_open_fds", "Open file descriptors of the agent.")),
      self_(std::make_shared<StatusHub*>(this)) {
  metrics::gauge(deps_.registry, "fairlead_build_info", "The build that runs.", {{"version", std::string(version())}})
      .Set(1);
  metrics::gauge(deps_.registry, "process_start_time_seconds", "When the agent started, in Unix time.")
      .Set(unix_seconds(clock_.wall()));
  deps_.inspect.attach(loop_, [this](const Inspect& request, Reply<Json> reply) { answer(request, std::move(reply)); });
}

void StatusHub::start() {
  loop_.post([self = std::weak_ptr(self_)] {
    if (const auto hub = self.lock()) (*hub)->look();
  });
}

void StatusHub::answer(const Inspect& request, Reply<Json> reply) {
  if (request.op == "version") return reply(Json{{"version", version()}, {"compiler", __VERSION__}});
  if (request.op == "config.get") return reply(deps_.configuration);
  std::function<Json(const Status&)> tell;
  if (request.op == "status") {
    tell = [this](const Status& status) {
      Json json = to_json(status);
      json["node"] = deps_.node;
      json["version"] = version();
      return json;
    };
  } else if (request.op == "health.ready") {
    tell = [](const Status& status) {
      return Json{{"healthy", status.serving}, {"missing", status.missing}, {"failing", status.failing}};
    };
  } else if (request.op == "health.live") {
    tell = [](const Status& status) {
      return Json{{"healthy", status.answered}, {"missing", status.answered ? Json::array() : Json(status.missing)}};
    };
  } else if (request.op == "health.proxy") {
    tell = [this](const Status&) { return proxy_health(); };
  } else {
    return reply(fail(Code::kInvalid, "no operation \"{}\"", request.op));
  }
  auto kept = std::make_shared<Reply<Json>>(std::move(reply));
  collect([kept, tell = std::move(tell)](const Status& status) { (*kept)(tell(status)); });
}

void StatusHub::collect(Done done) {
  auto round = std::make_shared<Round>();
  round->awaited = deps_.components.size();
  round->done = std::move(done);
  const auto finish = [this, round] {
    const Status status = aggregate(round->answers);
    note(status);
    round->done(status);
  };
  if (round->awaited == 0) return finish();
  for (const auto& [name, component] : deps_.components) {
    component.module.call(loop_, Inspect{component.op, Json::object()}, deps_.patience,
                          [self = std::weak_ptr(self_), round, name, finish](Result<Json> result) {
                            round->answers.insert_or_assign(name, std::move(result));
                            if (--round->awaited == 0 && !self.expired()) finish();
                          });
  }
}

void StatusHub::note(const Status& status) {
  ready_.Set(status.serving ? 1 : 0);
  for (const auto& [name, answer] : status.components.items()) {
    const auto synced = answer.find(answer.contains("synced") ? "synced" : "complete");
    const bool is = synced != answer.end() && *synced == true;
    metrics::gauge(deps_.registry, "fairlead_component_synced", "1 while the module is in sync.", {{"component", name}})
        .Set(is ? 1 : 0);
    if (is && name == kProxy) last_synced_ = clock_.wall();
  }
  if (!status.serving || std::exchange(was_serving_, true)) return;
  log::info(kModule, "ready: what was there is adopted, all is served", {{"synced", status.synced}});
  if (deps_.on_serving) deps_.on_serving();
}

void StatusHub::look() {
  measure_process();
  collect([this](const Status&) {
    next_look_ = loop_.after(was_serving_ ? Duration(kLooks) : Duration(kFirstLooks), [this] { look(); });
  });
}

void StatusHub::measure_process() {
  std::uint64_t total_pages = 0, resident_pages = 0;
  if (std::ifstream("/proc/self/statm") >> total_pages >> resident_pages) {
    memory_.Set(static_cast<double>(resident_pages) * static_cast<double>(::sysconf(_SC_PAGESIZE)));
  }
  std::error_code error;
  const auto entries = std::filesystem::directory_iterator("/proc/self/fd", error);
  if (!error) descriptors_.Set(static_cast<double>(std::distance(begin(entries), end(entries)) - 1));  // but our own
}

Json StatusHub::proxy_health() const {
  const WallTime now = clock_.wall();
  return {{"healthy", last_synced_ && now - *last_synced_ < kStale},
          {"lastUpdated", last_synced_ ? Json(format_time(to_timestamp(*last_synced_))) : Json()},
          {"currentTime", format_time(to_timestamp(now))},
          {"nodeEligible", true}};
}

}  // namespace fairlead::observe
