// SPDX-License-Identifier: Apache-2.0
// Hooks: lifecycle handlers of one pod's containers (postStart, preStop).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "agent/base/ip.h"
#include "agent/base/loop.h"
#include "agent/cri/runtime.h"
#include "agent/pods/probes/socket_attempt.h"

namespace k8s {
class Container;
class LifecycleHandler;
}  // namespace k8s

namespace fairlead::pods {

namespace api = ::runtime::v1;

// Why a handler can never be run, or success. Pure.
Result<> check_hook(const k8s::LifecycleHandler& handler, const k8s::Container& container);

// Owner: a pod's worker. Thread: the pods loop. No answer after its end.
class Hooks {
 public:
  Hooks(Loop& loop, cri::Runtime& runtime) : loop_(loop), runtime_(runtime) {}

  struct Target {
    const k8s::Container& container;
    std::string id;
    IpAddress ip;  // of the pod
  };
  // Runs a handler for at most `limit` and answers on the loop, once. kTimeout: it took longer; an HTTP answer of any
  // status is success, as it is with kubelet.
  void run(const k8s::LifecycleHandler& handler, const Target& target, Duration limit,
           std::function<void(Result<>)> done);
  // Whoever waits for a handler gets kCancelled now.
  void interrupt();

 private:
  struct Running {
    std::function<void(Result<>)> done;
    std::unique_ptr<SocketAttempt> http;
    Subscription timer;
  };
  void finish(unsigned number, Result<> result);

  Loop& loop_;
  cri::Runtime& runtime_;
  unsigned made_ = 0;
  std::map<unsigned, Running> running_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace fairlead::pods
