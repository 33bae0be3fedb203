// SPDX-License-Identifier: Apache-2.0
// Client: a CRI v1 runtime over gRPC.
#pragma once

#include <memory>
#include <string>

#include "agent/cri/runtime.h"

namespace fairlead::cri {

// Owner: Agent. Thread: call() and follow_events() from any thread; destroyed on the loop of follow_events(), or
// after that loop's run() returned. One channel; gRPC's threads only post to the caller's loop. Destruction cancels
// every call and waits until gRPC has let go of it: each still answers, with kCancelled, on a loop that runs on. Loops
// outlive the client. Cost: about 0.1 ms a call over what the runtime takes.
class Client final : public Runtime {
 public:
  // `endpoint` is unix:///absolute/path; nothing is connected yet, a dead socket shows as kUnavailable in calls.
  static Result<std::unique_ptr<Client>> create(const std::string& endpoint);
  ~Client() override;

#define FL_CRI_OVERRIDE(Name) \
  void call(Loop& loop, api::Name##Request request, Duration deadline, Done<api::Name##Response> done) override;
  FL_CRI_CALLS(FL_CRI_OVERRIDE)
#undef FL_CRI_OVERRIDE

  // Once. Opened again 0.25 s after a break, twice that after each further one up to 16 s, at once reset by an event.
  void follow_events(Loop& loop, std::function<void(api::ContainerEventResponse)> event,
                     std::function<void(StreamEnd, Error)> ended) override;

 private:
  struct Core;
  class Follower;
  explicit Client(std::shared_ptr<Core> core);

  std::shared_ptr<Core> core_;
  std::shared_ptr<Follower> follower_;
};

}  // namespace fairlead::cri
