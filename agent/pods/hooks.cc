// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/hooks.h"

#include <k8s/pod.pb.h>

#include "agent/pods/probes/probe_spec.h"

namespace fairlead::pods {
namespace {

// A handler is a probe that runs once, but for `sleep`.
Result<ProbeSpec> as_probe(const k8s::LifecycleHandler& handler, const k8s::Container& container, const IpAddress& ip) {
  k8s::Probe probe;
  if (handler.has_exec()) *probe.mutable_handler()->mutable_exec() = handler.exec();
  if (handler.has_httpget()) *probe.mutable_handler()->mutable_httpget() = handler.httpget();
  return make_probe_spec(probe, container, ip);
}

}  // namespace

Result<> check_hook(const k8s::LifecycleHandler& handler, const k8s::Container& container) {
  if (handler.has_sleep()) return {};
  if (auto spec = as_probe(handler, container, IpAddress()); !spec) return std::unexpected(std::move(spec).error());
  return {};
}

void Hooks::run(const k8s::LifecycleHandler& handler, const Target& target, Duration limit,
                std::function<void(Result<>)> done) {
  const unsigned number = ++made_;
  Running& running = running_[number];
  running.done = std::move(done);
  const auto in_time = [&](Duration wait, Result<> result) {
    running.timer = loop_.after(wait, [this, number, result] { finish(number, result); });
  };
  if (handler.has_sleep()) {
    const Duration sleep = std::chrono::seconds(handler.sleep().seconds());
    if (sleep <= limit) return in_time(sleep, {});
    return in_time(limit, fail(Code::kTimeout, "sleep was cut short after {} s", limit / std::chrono::seconds(1)));
  }
  const auto spec = as_probe(handler, target.container, target.ip);
  if (!spec) return in_time(Duration::zero(), std::unexpected(spec.error()));
  if (const auto* get = std::get_if<HttpGet>(&spec->action)) {
    running.http = std::make_unique<SocketAttempt>(loop_, *get, limit, [this, number](Attempt attempt) {
      if (attempt.success || attempt.status != 0) return finish(number, {});
      finish(number, fail(Code::kUnavailable, "{}", attempt.message));
    });
    return;
  }
  api::ExecSyncRequest request;
  request.set_container_id(target.id);
  for (const auto& word : handler.exec().command()) request.add_cmd(word);
  request.set_timeout(std::chrono::ceil<std::chrono::seconds>(limit).count());
  runtime_.call(loop_, std::move(request), limit + std::chrono::seconds(2),
                [this, number, alive = std::weak_ptr(alive_)](Result<api::ExecSyncResponse> result) {
                  if (alive.expired()) return;
                  if (!result) return finish(number, std::unexpected(result.error()));
                  if (result->exit_code() == 0) return finish(number, {});
                  finish(number, fail(Code::kSystem, "command exited with {}: {}", result->exit_code(),
                                      (result->stdout() + result->stderr()).substr(0, 1024)));
                });
}

void Hooks::interrupt() {
  while (!running_.empty()) finish(running_.begin()->first, fail(Code::kCancelled, "the pod's end came first"));
}

// Nothing, where it was interrupted before.
void Hooks::finish(unsigned number, Result<> result) {
  const auto at = running_.find(number);
  if (at == running_.end()) return;
  const auto node = running_.extract(at);  // alive until the handler's own callback is off the stack
  node.mapped().done(std::move(result));
}

}  // namespace fairlead::pods
