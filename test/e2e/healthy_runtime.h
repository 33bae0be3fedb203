// SPDX-License-Identifier: Apache-2.0
// A container runtime of which only its health is asked: for tests of what a node says of itself.
#pragma once

#include "agent/cri/runtime.h"

namespace fairlead {

// A runtime of which only its health is asked.
class HealthyRuntime final : public cri::Runtime {
 public:
#define FL_FAKE(Name)                                                                                           \
  void call(Loop& loop, cri::api::Name##Request, Duration, cri::Done<cri::api::Name##Response> done) override { \
    loop.post([done = std::move(done)] { done(answer(static_cast<cri::api::Name##Response*>(nullptr))); });     \
  }
  FL_CRI_CALLS(FL_FAKE)
#undef FL_FAKE
  void follow_events(Loop&, std::function<void(cri::api::ContainerEventResponse)>,
                     std::function<void(StreamEnd, Error)>) override {}

 private:
  template <class Response>
  static Result<Response> answer(Response*) {
    return fail(Code::kUnavailable, "not asked in this test");
  }
  static Result<cri::api::VersionResponse> answer(cri::api::VersionResponse*) {
    cri::api::VersionResponse version;
    version.set_runtime_name("containerd");
    version.set_runtime_version("9.9");
    return version;
  }
  static Result<cri::api::StatusResponse> answer(cri::api::StatusResponse*) {
    cri::api::StatusResponse status;
    for (const char* type : {"RuntimeReady", "NetworkReady"}) {
      auto* condition = status.mutable_status()->add_conditions();
      condition->set_type(type);
      condition->set_status(true);
    }
    return status;
  }
};

}  // namespace fairlead
