// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/worker.h"

#include <algorithm>

#include "agent/base/log.h"
#include "agent/pods/pod_names.h"

namespace fairlead::pods {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr Duration kCallDeadline = seconds(10);
constexpr Duration kSandboxDeadline = minutes(4);
constexpr Duration kSandboxPatience = seconds(5);
constexpr Duration kSignalPatience = std::chrono::milliseconds(100);  // who ends later takes its grace
constexpr Duration kHookLimit = minutes(10);                          // of a postStart handler
constexpr auto kNodeHosts = "/etc/hosts";
constexpr std::int64_t kLeastGraceSeconds = 2;  // is left for the process, however long its preStop handler took

// runAsNonRoot: whom the container would run as must be known, and not be root.
Result<> check_non_root(const k8s::Pod& pod, const k8s::Container& container, const api::Image& image) {
  const auto& own = container.securitycontext();
  const auto& shared = pod.spec().securitycontext();
  if (!(own.has_runasnonroot() ? own.runasnonroot() : shared.runasnonroot())) return {};
  if (own.has_runasuser() || shared.has_runasuser()) {
    if ((own.has_runasuser() ? own.runasuser() : shared.runasuser()) != 0) return {};
    return fail(Code::kInvalid, "container's runAsUser breaks non-root policy");
  }
  if (!image.has_uid() && !image.username().empty()) {
    return fail(Code::kInvalid,
                "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root",
                image.username());
  }
  if (image.uid().value() != 0) return {};
  return fail(Code::kInvalid, "container has runAsNonRoot and image will run as root");
}

// The end of an action that changed this, if it came to be.
Result<Change> as_change(const Result<>& result, Change change) {
  if (!result) return std::unexpected(result.error());
  return change;
}

}  // namespace

Worker::Worker(WorkerContext& context, std::shared_ptr<const k8s::Pod> pod, std::function<void(const Change&)> changed)
    : context_(context), pod_(std::move(pod)), changed_(std::move(changed)), hooks_(context.loop, context.runtime) {}

template <class Response, class Request>
void Worker::ask(Request request, Duration deadline, std::function<void(Result<Response>)> done) {
  context_.runtime.call(context_.loop, std::move(request), deadline,
                        [alive = std::weak_ptr(alive_), done = std::move(done)](Result<Response> result) {
                          if (!alive.expired()) done(std::move(result));
                        });
}

template <class Response, class Request>
void Worker::ask_within(Limit& limit, Duration patience, Request request, Duration deadline,
                        std::function<void(Result<Response>)> done) {
  limit.enter([this, &limit, patience, deadline, request = std::move(request), done = std::move(done),
               alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return limit.leave();
    const auto place = std::make_shared<Place>(context_.loop, limit, patience);
    context_.runtime.call(context_.loop, request, deadline, [place, alive, done](Result<Response> result) {
      place->leave();
      if (!alive.expired()) done(std::move(result));
    });
  });
}

void Worker::begin(const Plan& plan, const PodRuntimeView& view) {
  const auto kill_end =
      std::ranges::find_if(plan.actions, [](const Action& one) { return one.what != Do::kKillContainer; });
  const auto end = kill_end != plan.actions.begin() ? kill_end : plan.actions.begin() + !plan.actions.empty();
  running_ = static_cast<unsigned>(end - plan.actions.begin());
  const std::vector<Action> actions(plan.actions.begin(), end);
  for (const Action& action : actions) {
    log::debug("pods", "acts",
               {{"pod", pod_->metadata().name()},
                {"action", static_cast<int>(action.what)},
                {"container", action.name},
                {"id", action.id}});
    run(action, view, [this, key = end_key(action), alone = actions.size() == 1](const Result<Change>& result) {
      if (!result) log::warn("pods", "an action failed", {{"pod", pod_->metadata().name()}, {"error", result.error()}});
      if (!result && !key.empty()) failed(key, "FailedKillPod", result.error());
      if (result) history_.failures.erase(key);
      ended(result && alone ? *result : Change());
    });
  }
}

void Worker::ended(const Change& change) {
  if (--running_ == 0) changed_(change);
}

void Worker::failed(const std::string& key, std::string reason, const Error& error) {
  Failure& failure = history_.failures[key];
  failure.reason = std::move(reason);
  failure.message = error.message();
  failure.until =
      context_.clock.wall() + std::chrono::duration_cast<WallTime::duration>(retry_delay(key, ++failure.count));
}

void Worker::run(const Action& action, const PodRuntimeView& view, Next done) {
  const auto plain = [done](Change change) {
    return [done, change](const auto& result) {
      // What is gone already needs no end.
      if (!result && result.error().code != Code::kNotFound) return done(std::unexpected(result.error()));
      done(change);
    };
  };
  switch (action.what) {
    case Do::kSetUpVolumes:
      context_.volumes.set_up(*pod_, [this, done, alive = std::weak_ptr(alive_)](Result<> result) {
        if (alive.expired()) return;
        history_.volumes_ready = result.has_value();
        if (result) {
          history_.failures.erase(kVolumesKey);
        } else {
          failed(kVolumesKey, "FailedMount", result.error());
          context_.events.warning(*pod_, "FailedMount", "MountVolume.SetUp failed for " + result.error().message());
        }
        done(as_change(result, {.what = Change::Of::kNothing}));
      });
      return;
    case Do::kCreateSandbox:
      if (action.id.empty()) return create_sandbox(action, std::move(done));
      context_.events.normal(*pod_, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
      run({.what = Do::kStopSandbox, .id = action.id}, view, [this, action, done](Result<Change> stopped) {
        if (stopped) return create_sandbox(action, done);
        failed(kSandboxKey, "FailedKillPod", stopped.error());
        context_.events.warning(*pod_, "FailedKillPod", "error killing pod: " + stopped.error().message());
        done(std::move(stopped));
      });
      return;
    case Do::kCreateContainer:
      return create_container(action, view, std::move(done));
    case Do::kStartContainer:
      return start_container(action.name, action.id, *view.sandbox(), std::move(done));
    case Do::kKillContainer:
      return kill_container(action, view, std::move(done));
    case Do::kStopSandbox: {
      api::StopPodSandboxRequest request;
      request.set_pod_sandbox_id(action.id);
      ask_within<api::StopPodSandboxResponse>(context_.ends, kSandboxPatience, request, kSandboxDeadline, plain({}));
      return;
    }
    case Do::kRemoveContainer: {
      end_processes(action.id);
      api::RemoveContainerRequest request;
      request.set_container_id(action.id);
      ask<api::RemoveContainerResponse>(request, kCallDeadline, plain({Change::Of::kContainer, action.id}));
      return;
    }
    case Do::kRemoveSandbox: {
      end_processes(action.id);
      api::RemovePodSandboxRequest request;
      request.set_pod_sandbox_id(action.id);
      ask_within<api::RemovePodSandboxResponse>(context_.ends, kSandboxPatience, request, kSandboxDeadline, plain({}));
      return;
    }
    case Do::kTearDown:
      return tear_down(std::move(done));
  }
}

// Of a container or sandbox that is over. containerd forgets a process whose start was cut off between the creation of
// its task and the answer: nothing that CRI has ends it.
void Worker::end_processes(const std::string& id) {
  const std::string cgroup = cgroup_parent(context_.node, *pod_) + "/" + id;
  if (const auto removed = context_.cgroups.remove(cgroup); !removed) {
    log::warn("pods", "a removed container had left a process",
              {{"pod", pod_->metadata().name()}, {"id", id}, {"error", removed.error()}});
  }
}

void Worker::tear_down(Next done) {
  context_.volumes.tear_down(pod_->metadata().uid(), [this, done, alive = std::weak_ptr(alive_)](Result<> result) {
    if (alive.expired()) return;
    // An orphan's class is not known any more: each tier is tried, and what is not there is gone.
    for (const auto* tier : {"", "/besteffort", "/burstable"}) {
      const std::string& uid = pod_->metadata().uid();
      if (result) result = context_.cgroups.remove(context_.node.cgroup_prefix + "/kubepods" + tier + "/pod" + uid);
    }
    if (result) result = context_.files.remove_folder(log_directory(context_.node, *pod_));
    history_.torn_down = result.has_value();
    done(as_change(result, {.what = Change::Of::kNothing}));
  });
}

void Worker::kill_container(const Action& action, const PodRuntimeView& view, Next done) {
  const auto unhealthy = history_.unhealthy.find(action.id);
  context_.events.normal(*pod_, "Killing",
                         unhealthy != history_.unhealthy.end()
                             ? fmt::format("Container {} {}, will be restarted", action.name, unhealthy->second)
                         : action.reason == "Changed"
                             ? fmt::format("Container {} definition changed, will be restarted", action.name)
                             : fmt::format("Stopping container {}", action.name),
                         action.name);
  killing_[action.id] = action.grace_s;
  const auto at = std::ranges::find(view.containers, action.id, &ContainerView::id);
  const std::function<void(Result<>)> killed =
      [this, done,
       change = Change{Change::Of::kContainer, action.id,
                       at == view.containers.end() ? std::string() : at->sandbox_id}](const Result<>& result) {
        killing_.erase(change.id);
        done(as_change(result, change));
      };
  const k8s::Container* container = find_container(pod_->spec(), action.name);
  const bool runs = at != view.containers.end() && at->state == RunState::kRunning;
  if (container == nullptr || !container->lifecycle().has_prestop() || !runs || action.grace_s <= 0) {
    return stop_container(action.id, action.grace_s, killed);
  }
  const auto addresses = view.sandbox() != nullptr ? ips_of(*view.sandbox()) : std::vector<IpAddress>();
  const TimePoint began = context_.clock.now();
  hooks_.run(
      container->lifecycle().prestop(), {*container, action.id, addresses.empty() ? IpAddress() : addresses.front()},
      seconds(action.grace_s), [this, action, began, killed](Result<> result) {
        if (!result && result.error().code != Code::kCancelled) {
          context_.events.warning(*pod_, "FailedPreStopHook", "PreStopHook failed", action.name);
          log::warn("pods", "a preStop handler failed", {{"pod", pod_->metadata().name()}, {"error", result.error()}});
        }
        const auto took = std::chrono::duration_cast<seconds>(context_.clock.now() - began).count();
        const auto now_given = killing_.find(action.id);  // less than before, where somebody hurries
        const std::int64_t grace = now_given == killing_.end() ? action.grace_s : now_given->second;
        stop_container(action.id, std::max(grace - took, kLeastGraceSeconds), killed);
      });
}

void Worker::stop_container(const std::string& id, std::int64_t grace_s, std::function<void(Result<>)> done) {
  api::StopContainerRequest request;
  request.set_container_id(id);
  request.set_timeout(grace_s);
  ask_within<api::StopContainerResponse>(context_.ends, kSignalPatience, request, seconds(grace_s) + kCallDeadline * 3,
                                         [done](auto result) {
                                           if (!result && result.error().code != Code::kNotFound)
                                             return done(std::unexpected(result.error()));
                                           done({});  // what is gone already needs no end
                                         });
}

void Worker::hurry(std::int64_t grace_s) {
  for (auto& [id, given] : killing_) {
    if (given <= grace_s) continue;
    given = grace_s;
    stop_container(id, grace_s, [](const Result<>&) {});  // the call that is on its way answers as well
  }
  hooks_.interrupt();
}

std::vector<IpAddress> Worker::ips_of(const SandboxView& sandbox) const {
  return pod_->spec().hostnetwork() ? context_.node_ips : sandbox.ips;
}

// What the pod's sandbox is made with; the node's resolv.conf as it is now. `tells`: what DNS lacks becomes an event.
Result<api::PodSandboxConfig> Worker::sandbox_config_of(std::uint32_t attempt, bool tells) const {
  const NodeFacts& node = context_.node;
  Resolver of_node;
  if (uses_node_resolver(*pod_) && !node.dns.resolv_conf.empty()) {
    FL_LET(const std::string text, context_.files.read(node.dns.resolv_conf));
    auto parsed = parse_resolv_conf(text);
    if (!parsed) return fail_with(std::move(parsed).error(), node.dns.resolv_conf);
    of_node = std::move(*parsed);
  }
  const PodDns dns = pod_dns(*pod_, node.dns, of_node, context_.node_ips);
  if (tells) {
    for (const Warning& warning : dns.warnings) context_.events.warning(*pod_, warning.reason, warning.message);
  }
  return sandbox_config(node, *pod_, attempt, dns.resolver);
}

void Worker::sandbox_failed(const Error& error, const Next& done) {
  failed(kSandboxKey, "FailedCreatePodSandBox", error);
  context_.events.warning(*pod_, "FailedCreatePodSandBox", "Failed to create pod sandbox: " + error.message());
  done(std::unexpected(error));
}

void Worker::create_sandbox(const Action& action, Next done) {
  if (auto made = context_.cgroups.create(cgroup_parent(context_.node, *pod_)); !made) {
    failed(kSandboxKey, "FailedCreatePodSandBox", made.error());
    context_.events.warning(*pod_, "FailedCreatePodContainer", made.error().message());
    return done(std::unexpected(std::move(made).error()));
  }
  auto config = sandbox_config_of(action.attempt, true);
  if (!config) return sandbox_failed(config.error(), done);
  api::RunPodSandboxRequest request;
  *request.mutable_config() = std::move(*config);
  ask_within<api::RunPodSandboxResponse>(
      context_.starts, kSandboxPatience, std::move(request), kSandboxDeadline,
      [this, action, done](const auto& result) {
        if (result) {
          history_.failures.erase(kSandboxKey);
          // One that was stopped before it has changed as well.
          return done(action.id.empty()
                          ? Change{.what = Change::Of::kSandbox, .id = result->pod_sandbox_id(), .begun = true}
                          : Change());
        }
        // An earlier call of ours may still be at work on that name: a later look finds what it made. Only when
        // nothing comes of it is the name given up.
        const bool reserved = result.error().what.find("is reserved") != std::string::npos;
        if (reserved && history_.failures[kSandboxKey].count > 0) history_.next_attempt = action.attempt + 1;
        sandbox_failed(result.error(), done);
      });
}

void Worker::stop(const std::string& container, std::string reason, const Error& error, const Next& done) {
  // kubelet names the reason where a pull has its own event, and says the error itself of everything else.
  const bool of_image = reason == "ErrImagePull" || reason == "ErrImageNeverPull" || reason == "ImagePullBackOff" ||
                        reason == "InvalidImageName" || reason == "ImageInspectError";
  context_.events.warning(*pod_, "Failed", "Error: " + (of_image ? reason : error.message()), container);
  failed(container, std::move(reason), error);
  done(std::unexpected(error));
}

// A pull secret that has not been read yet is worth a short wait, but not the container.
Result<> Worker::check_pull_secrets(const std::string& container) const {
  const auto failure = history_.failures.find(container);
  if (failure != history_.failures.end() && failure->second.count > 1) return {};
  for (const auto& ref : pod_->spec().imagepullsecrets()) {
    const auto secret = context_.config(ConfigKind::kSecret, pod_->metadata().namespace_() + "/" + ref.name());
    if (!secret && secret.error().code == Code::kUnavailable) return std::unexpected(secret.error());
  }
  return {};
}

// The pod's hosts file, made anew with each container as kubelet does, and the container's termination log.
Result<> Worker::write_files(const std::string& container, std::uint32_t attempt,
                             const std::vector<IpAddress>& ips) const {
  std::string node_hosts;
  if (pod_->spec().hostnetwork()) {
    auto read = context_.files.read(kNodeHosts);
    if (!read && read.error().code != Code::kNotFound) return std::unexpected(read.error());
    node_hosts = read.value_or("");
  }
  const NodeFacts& node = context_.node;
  const std::string& uid = pod_->metadata().uid();
  FL_TRY(context_.files.write(hosts_path(node, uid), hosts_file(*pod_, node.dns.cluster_domain, ips, node_hosts)));
  return context_.files.write(message_path(node, uid, container, attempt), "");
}

void Worker::create_container(const Action& action, const PodRuntimeView& view, Next done) {
  const k8s::Container* container = find_container(pod_->spec(), action.name);
  const SandboxView* sandbox = view.sandbox();
  if (container == nullptr || sandbox == nullptr) {
    return done(fail(Code::kConflict, "container {}: the pod changed", action.name));
  }
  const auto ips = ips_of(*sandbox);
  const auto config_error = [&](const Error& error) { stop(action.name, "CreateContainerConfigError", error, done); };
  const auto services = context_.services(*pod_);
  if (!services) return config_error(services.error());
  if (const auto known = check_pull_secrets(action.name); !known) return config_error(known.error());
  const DownwardFacts facts{ips, context_.node_ips, context_.node_name, context_.allocatable};
  auto env = container_env({*pod_, context_.config, facts, *services}, *container);
  if (!env) return config_error(env.error());
  if (auto written = write_files(action.name, action.attempt, ips); !written) return config_error(written.error());
  // kubelet's task, not the runtime's: the folder that the container's log goes to.
  if (auto made = context_.files.make_folder(log_directory(context_.node, *pod_) + "/" + action.name); !made) {
    return config_error(made.error());
  }
  auto sandbox_of_pod = sandbox_config_of(sandbox->attempt, false);
  if (!sandbox_of_pod) return config_error(sandbox_of_pod.error());
  api::CreateContainerRequest request;
  request.set_pod_sandbox_id(sandbox->id);
  *request.mutable_sandbox_config() = *sandbox_of_pod;
  context_.images.find(
      pod_, *container, *sandbox_of_pod,
      [this, action, done, sandbox = *sandbox, container = *container, env = std::move(*env),
       request = std::move(request), alive = std::weak_ptr(alive_)](auto image) {
        if (alive.expired()) return;
        if (image) return create_with(action, request, container, env, *image, sandbox, done);
        const bool again = image.error().reason == "ErrImagePull" && history_.failures.contains(container.name());
        stop(container.name(), again ? "ImagePullBackOff" : image.error().reason, image.error().error, done);
      });
}

void Worker::create_with(const Action& action, api::CreateContainerRequest request, const k8s::Container& container,
                         const Env& env, const api::Image& image, const SandboxView& sandbox, Next done) {
  if (const auto may = check_non_root(*pod_, container, image); !may) {
    return stop(action.name, "CreateContainerConfigError", may.error(), done);
  }
  const auto expanded = expand_sub_paths(container, env);
  if (!expanded) return stop(action.name, "CreateContainerConfigError", expanded.error(), done);
  context_.volumes.mount_paths(
      pod_->metadata().uid(), *expanded, [=, this, alive = std::weak_ptr(alive_)](auto paths) mutable {
        if (alive.expired()) return;
        if (!paths) return stop(action.name, "CreateContainerConfigError", paths.error(), done);
        auto config =
            container_config({context_.node, *pod_, container, action.attempt, action.streak, image, env, *paths});
        if (!config) return stop(action.name, "CreateContainerConfigError", config.error(), done);
        *request.mutable_config() = std::move(*config);
        ask<api::CreateContainerResponse>(std::move(request), kSandboxDeadline,
                                          [this, name = action.name, sandbox, done](auto made) {
                                            if (!made) return stop(name, "CreateContainerError", made.error(), done);
                                            context_.events.normal(*pod_, "Created", "Container created", name);
                                            start_container(name, made->container_id(), sandbox, done);
                                          });
      });
}

void Worker::start_container(const std::string& name, const std::string& id, const SandboxView& sandbox, Next done) {
  api::StartContainerRequest request;
  request.set_container_id(id);
  ask<api::StartContainerResponse>(request, kSandboxDeadline, [this, name, id, sandbox, done](auto result) {
    if (!result) return stop(name, "RunContainerError", result.error(), done);
    context_.events.normal(*pod_, "Started", "Container started", name);
    history_.failures.erase(name);
    const Change change{Change::Of::kContainer, id, sandbox.id, true};
    const k8s::Container* container = find_container(pod_->spec(), name);
    if (container == nullptr || !container->lifecycle().has_poststart()) return done(change);
    // The next container starts when the handler is through, as with kubelet.
    const auto ips = ips_of(sandbox);
    hooks_.run(container->lifecycle().poststart(), {*container, id, ips.empty() ? IpAddress() : ips.front()},
               kHookLimit, [this, name, change, done](const Result<>& ran) {
                 if (ran || ran.error().code == Code::kCancelled) return done(change);
                 context_.events.warning(*pod_, "FailedPostStartHook", "PostStartHook failed", name);
                 history_.unhealthy[change.id] = "failed postStart hook";
                 done(std::unexpected(ran.error()));
               });
  });
}

}  // namespace fairlead::pods
