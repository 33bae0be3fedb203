// SPDX-License-Identifier: Apache-2.0
// Worker: one pod's life, from its plan to the runtime.
#pragma once

#include <k8s/pod.pb.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/cri/runtime.h"
#include "agent/pods/cgroups.h"
#include "agent/pods/cri_config.h"
#include "agent/pods/plan.h"
#include "agent/pods/seams.h"

namespace fairlead::pods {

// At most so many at once; the rest wait in order. Thread: the pods loop.
class Limit {
 public:
  explicit Limit(unsigned places) : places_(places) {}
  void enter(std::function<void()> run) {
    waiting_.push_back(std::move(run));
    next();
  }
  void leave() {
    ++places_;
    next();
  }

 private:
  void next() {
    while (places_ > 0 && !waiting_.empty()) {
      --places_;
      auto run = std::move(waiting_.front());
      waiting_.pop_front();
      run();
    }
  }
  unsigned places_;
  std::deque<std::function<void()>> waiting_;
};

// What all workers share. Owner: Pods.
struct WorkerContext {
  Loop& loop;
  const Clock& clock;
  cri::Runtime& runtime;
  VolumeSetup& volumes;
  PodFiles& files;
  const Cgroups& cgroups;
  const NodeFacts& node;
  std::string node_name;
  std::vector<IpAddress> node_ips;
  FindConfig config_map;
  FindConfig secret;
  Limit starts{10};
  Limit pulls{5};
};

// Carries out one action of a plan at a time (kills of one plan go together) and remembers what failed. Owner and
// thread: Pods, its loop. A callback of the runtime that comes after its end does nothing.
class Worker {
 public:
  // `changed`: an action ended, look at the pod and plan again.
  Worker(WorkerContext& context, std::shared_ptr<const k8s::Pod> pod, std::function<void()> changed);

  const k8s::Pod& pod() const { return *pod_; }
  void set_pod(std::shared_ptr<const k8s::Pod> pod) { pod_ = std::move(pod); }
  PodHistory& history() { return history_; }
  bool busy() const { return running_ > 0; }

  // Begins the first action of `plan`. Only when not busy().
  void begin(const Plan& plan, const PodRuntimeView& view);

 private:
  using Next = std::function<void(Result<>)>;
  void run(const Action& action, const PodRuntimeView& view, Next done);
  void create_sandbox(const Action& action, Next done);
  void create_container(const Action& action, const PodRuntimeView& view, Next done);
  void find_image(const k8s::Container& container, std::function<void(Result<std::string>)> done);
  void pull(const k8s::Container& container, std::function<void(Result<std::string>)> done);
  void failed(const std::string& key, std::string reason, const Error& error);
  void ended();
  template <class Response, class Request>
  void ask(Request request, Duration deadline, std::function<void(Result<Response>)> done);

  WorkerContext& context_;
  std::shared_ptr<const k8s::Pod> pod_;
  std::function<void()> changed_;
  PodHistory history_;
  unsigned running_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace fairlead::pods
