// SPDX-License-Identifier: Apache-2.0
// Worker: one pod's life, from its plan to the runtime.
#pragma once

#include <k8s/pod.pb.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/cri/runtime.h"
#include "agent/pods/cgroups.h"
#include "agent/pods/cri_config.h"
#include "agent/pods/events.h"
#include "agent/pods/hooks.h"
#include "agent/pods/images.h"
#include "agent/pods/limit.h"
#include "agent/pods/plan.h"
#include "agent/pods/seams.h"

namespace fairlead::pods {

// What all workers share. Owner: Pods.
struct WorkerContext {
  Loop& loop;
  const Clock& clock;
  cri::Runtime& runtime;
  VolumeSetup& volumes;
  PodFiles& files;
  const Cgroups& cgroups;
  const NodeFacts& node;
  Images& images;
  const Events& events;
  std::string node_name;
  std::vector<IpAddress> node_ips;
  Allocatable allocatable;
  ConfigLookup config;
  // The variables of Services for a pod; kUnavailable until all Services are known.
  std::function<Result<Env>(const k8s::Pod&)> services;
  Limit starts{10};  // of sandboxes, with their networks
  // Of containers and sandboxes. Ending takes the runtime more processes than starting, all outside of the pods'
  // cgroups: many at once would leave the pods that go on no processor.
  Limit ends{2};
};

// Carries out one action of a plan at a time (kills of one plan go together) and remembers what failed. Owner and
// thread: Pods, its loop. A callback of the runtime that comes after its end does nothing.
class Worker {
 public:
  // `changed`: an action ended and changed this in the runtime: look at it and plan again.
  Worker(WorkerContext& context, std::shared_ptr<const k8s::Pod> pod, std::function<void(const Change&)> changed);

  const k8s::Pod& pod() const { return *pod_; }
  const std::shared_ptr<const k8s::Pod>& shared_pod() const { return pod_; }
  void set_pod(std::shared_ptr<const k8s::Pod> pod) { pod_ = std::move(pod); }
  PodHistory& history() { return history_; }
  bool busy() const { return running_ > 0; }

  // Begins the first action of `plan`. Only when not busy().
  void begin(const Plan& plan, const PodRuntimeView& view);
  // The pod is to end, within `grace_s`: handlers are waited for no longer, and what is being killed with more patience
  // is killed with that.
  void hurry(std::int64_t grace_s);

 private:
  using Next = std::function<void(Result<Change>)>;
  void run(const Action& action, const PodRuntimeView& view, Next done);
  Result<api::PodSandboxConfig> sandbox_config_of(std::uint32_t attempt, bool tells) const;
  Result<> write_files(const std::string& container, std::uint32_t attempt, const std::vector<IpAddress>& ips) const;
  void create_sandbox(const Action& action, Next done);
  void sandbox_failed(const Error& error, const Next& done);
  void create_container(const Action& action, const PodRuntimeView& view, Next done);
  void create_with(const Action& action, api::CreateContainerRequest request, const k8s::Container& container,
                   const Env& env, const api::Image& image, const SandboxView& sandbox, Next done);
  void start_container(const std::string& name, const std::string& id, const SandboxView& sandbox, Next done);
  void kill_container(const Action& action, const PodRuntimeView& view, Next done);
  void stop_container(const std::string& id, std::int64_t grace_s, std::function<void(Result<>)> done);
  void tear_down(Next done);
  void end_processes(const std::string& id);
  Result<> check_pull_secrets(const std::string& container) const;
  std::vector<IpAddress> ips_of(const SandboxView& sandbox) const;
  void failed(const std::string& key, std::string reason, const Error& error);
  // As failed(), with an event and an answer.
  void stop(const std::string& container, std::string reason, const Error& error, const Next& done);
  void ended(const Change& change);
  template <class Response, class Request>
  void ask(Request request, Duration deadline, std::function<void(Result<Response>)> done);
  // The same as one of so many of its kind at once, of which it is one for `patience` at most.
  template <class Response, class Request>
  void ask_within(Limit& limit, Duration patience, Request request, Duration deadline,
                  std::function<void(Result<Response>)> done);

  WorkerContext& context_;
  std::shared_ptr<const k8s::Pod> pod_;
  std::function<void(const Change&)> changed_;
  PodHistory history_;
  Hooks hooks_;
  unsigned running_ = 0;
  std::map<std::string, std::int64_t> killing_;  // container id → the grace it is being given
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace fairlead::pods
