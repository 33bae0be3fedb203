// SPDX-License-Identifier: Apache-2.0
// Runtime: what the pods domain may ask of a CRI v1 runtime. Every call is asynchronous, has a deadline, and answers on
// the caller's loop exactly once.
#pragma once

#include <cri/v1.pb.h>

#include <functional>

#include "agent/base/loop.h"
#include "agent/base/result.h"

namespace fairlead::cri {

namespace api = ::runtime::v1;

template <class T>
using Done = std::function<void(Result<T>)>;

// Implemented over gRPC by Client; a fake serves unit tests. Thread: any; `done` runs on `loop`. Errors carry the
// call's name and the runtime's own words; gRPC codes map to Code (UNAVAILABLE → kUnavailable, DEADLINE_EXCEEDED →
// kTimeout, NOT_FOUND → kNotFound, ALREADY_EXISTS → kExists, INVALID_ARGUMENT → kInvalid).
class Runtime {
 public:
  virtual ~Runtime() = default;

  // clang-format off
#define FL_CRI_CALLS(X)                                                                                            \
  X(Version) X(Status) X(RuntimeConfig) X(RunPodSandbox) X(StopPodSandbox) X(RemovePodSandbox) X(PodSandboxStatus) \
  X(ListPodSandbox) X(CreateContainer) X(StartContainer) X(StopContainer) X(RemoveContainer) X(ListContainers)     \
  X(ContainerStatus) X(ExecSync) X(ImageStatus) X(ListImages) X(PullImage)
// clang-format on
#define FL_CRI_DECLARE(Name) \
  virtual void call(Loop& loop, api::Name##Request request, Duration deadline, Done<api::Name##Response> done) = 0;
  FL_CRI_CALLS(FL_CRI_DECLARE)
#undef FL_CRI_DECLARE

  // Follows GetContainerEvents on `loop` until the end of this object: `event` for each, `broken` whenever the stream
  // ended (it is opened again by itself, with back-off; kind kUnsupported once where the runtime has none).
  enum class StreamEnd { kBroken, kUnsupported };
  virtual void follow_events(Loop& loop, std::function<void(api::ContainerEventResponse)> event,
                             std::function<void(StreamEnd, Error)> ended) = 0;
};

}  // namespace fairlead::cri
