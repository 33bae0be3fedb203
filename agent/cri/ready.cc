// SPDX-License-Identifier: Apache-2.0
#include "agent/cri/ready.h"

#include <utility>

namespace fairlead::cri {

namespace {

using namespace std::chrono_literals;
constexpr Duration kEvery = 200ms;
constexpr Duration kCallDeadline = 5s;

// What `response` says of a condition, or nullptr where it does not name it.
const api::RuntimeCondition* condition(const api::StatusResponse& response, std::string_view type) {
  for (const auto& item : response.status().conditions()) {
    if (item.type() == type) return &item;
  }
  return nullptr;
}

std::string words(const api::RuntimeCondition* found) {
  if (found == nullptr) return "the condition is not reported";
  return fmt::format("{}: {}", found->reason(), found->message());
}

}  // namespace

// Callbacks hold it weakly: gone with the ReadyCheck. Thread: the loop.
struct ReadyCheck::State : std::enable_shared_from_this<State> {
  State(Runtime& of, Loop& on, const Clock& time, Duration limit, Done<RuntimeInfo> to)
      : runtime(of), loop(on), clock(time), end(time.now() + limit), done(std::move(to)) {}

  void ask() {
    api::VersionRequest request;
    request.set_version("v1");
    runtime.call(loop, std::move(request), kCallDeadline, [weak = weak_from_this()](auto result) {
      if (const auto self = weak.lock()) self->on_version(std::move(result));
    });
  }

  void on_version(Result<api::VersionResponse> result) {
    if (!result) return again(std::move(result).error());
    info.name = result->runtime_name();
    info.version = result->runtime_version();
    info.api_version = result->runtime_api_version();
    runtime.call(loop, api::StatusRequest(), kCallDeadline, [weak = weak_from_this()](auto status) {
      if (const auto self = weak.lock()) self->on_status(std::move(status));
    });
  }

  void on_status(Result<api::StatusResponse> result) {
    if (!result) return again(std::move(result).error());
    if (const auto* ready = condition(*result, "RuntimeReady"); ready == nullptr || !ready->status()) {
      return again(
          {Code::kUnavailable, fmt::format("{} {} is not ready: {}", info.name, info.version, words(ready)), 0});
    }
    const auto* network = condition(*result, "NetworkReady");
    info.network_ready = network != nullptr && network->status();
    if (!info.network_ready) info.network_message = words(network);
    std::exchange(done, {})(std::move(info));
  }

  void again(Error error) {
    const bool may_pass = error.code == Code::kUnavailable || error.code == Code::kTimeout;
    if (!may_pass || clock.now() + kEvery > end) {
      std::exchange(done, {})(fail_with(std::move(error), "the container runtime"));
      return;
    }
    retry = loop.after(kEvery, [this] { ask(); });
  }

  Runtime& runtime;
  Loop& loop;
  const Clock& clock;
  TimePoint end;
  Done<RuntimeInfo> done;
  RuntimeInfo info;
  Subscription retry;
};

ReadyCheck::ReadyCheck(Runtime& runtime, Loop& loop, const Clock& clock, Duration limit, Done<RuntimeInfo> done)
    : state_(std::make_shared<State>(runtime, loop, clock, limit, std::move(done))) {
  state_->ask();
}

ReadyCheck::~ReadyCheck() = default;

}  // namespace fairlead::cri
