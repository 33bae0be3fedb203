// SPDX-License-Identifier: Apache-2.0
// ReadyCheck: waits until a CRI runtime answers and calls itself ready, and says what it is.
#pragma once

#include <memory>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/base/result.h"
#include "agent/cri/runtime.h"

namespace fairlead::cri {

struct RuntimeInfo {
  std::string name;         // "containerd"
  std::string version;      // the runtime's own
  std::string api_version;  // of CRI: "v1"
  // NetworkReady is told, not required: the CNI configuration may be ours and still to come.
  bool network_ready = false;
  std::string network_message;  // why not
};

// Asks Version, then Status, again every 200 ms while the runtime is away or not ready, until `limit` is over. `done`
// runs once on `loop`; the error names the step and the runtime's own words. Owner: the caller; destroyed (on the loop,
// or after its run() returned) it never answers.
class ReadyCheck {
 public:
  ReadyCheck(Runtime& runtime, Loop& loop, const Clock& clock, Duration limit, Done<RuntimeInfo> done);
  ~ReadyCheck();
  ReadyCheck(const ReadyCheck&) = delete;
  ReadyCheck& operator=(const ReadyCheck&) = delete;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace fairlead::cri
