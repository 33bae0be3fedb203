// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/worker.h"

#include <algorithm>

#include "agent/base/log.h"

namespace fairlead::pods {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr Duration kCallDeadline = seconds(10);
constexpr Duration kSandboxDeadline = minutes(4);
constexpr Duration kPullDeadline = minutes(10);

}  // namespace

Worker::Worker(WorkerContext& context, std::shared_ptr<const k8s::Pod> pod, std::function<void()> changed)
    : context_(context), pod_(std::move(pod)), changed_(std::move(changed)) {}

template <class Response, class Request>
void Worker::ask(Request request, Duration deadline, std::function<void(Result<Response>)> done) {
  context_.runtime.call(context_.loop, std::move(request), deadline,
                        [alive = std::weak_ptr(alive_), done = std::move(done)](Result<Response> result) {
                          if (!alive.expired()) done(std::move(result));
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
    run(action, view, [this](Result<> result) {
      if (!result) log::warn("pods", "an action failed", {{"pod", pod_->metadata().name()}, {"error", result.error()}});
      ended();
    });
  }
}

void Worker::ended() {
  if (--running_ == 0) changed_();
}

void Worker::failed(const std::string& key, std::string reason, const Error& error) {
  Failure& failure = history_.failures[key];
  failure.reason = std::move(reason);
  failure.message = error.message();
  failure.until = context_.clock.wall() + std::chrono::duration_cast<WallTime::duration>(retry_delay(++failure.count));
}

void Worker::run(const Action& action, const PodRuntimeView& view, Next done) {
  const auto plain = [done](auto result) {
    // What is gone already needs no end.
    if (!result && result.error().code != Code::kNotFound) return done(std::unexpected(result.error()));
    done({});
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
        }
        done(std::move(result));
      });
      return;
    case Do::kCreateSandbox:
      if (action.id.empty()) return create_sandbox(action, std::move(done));
      run({.what = Do::kStopSandbox, .id = action.id}, view, [this, action, done](Result<> stopped) {
        if (stopped) return create_sandbox(action, done);
        failed(kSandboxKey, "FailedKillPod", stopped.error());
        done(std::move(stopped));
      });
      return;
    case Do::kCreateContainer:
      return create_container(action, view, std::move(done));
    case Do::kStartContainer: {
      api::StartContainerRequest request;
      request.set_container_id(action.id);
      ask<api::StartContainerResponse>(request, kSandboxDeadline, [this, name = action.name, done](auto result) {
        if (!result) {
          failed(name, "RunContainerError", result.error());
          return done(std::unexpected(result.error()));
        }
        history_.failures.erase(name);
        done({});
      });
      return;
    }
    case Do::kKillContainer: {
      api::StopContainerRequest request;
      request.set_container_id(action.id);
      request.set_timeout(action.grace_s);
      ask<api::StopContainerResponse>(request, seconds(action.grace_s) + kCallDeadline * 3, plain);
      return;
    }
    case Do::kStopSandbox: {
      api::StopPodSandboxRequest request;
      request.set_pod_sandbox_id(action.id);
      ask<api::StopPodSandboxResponse>(request, kSandboxDeadline, plain);
      return;
    }
    case Do::kRemoveContainer: {
      api::RemoveContainerRequest request;
      request.set_container_id(action.id);
      ask<api::RemoveContainerResponse>(request, kCallDeadline, plain);
      return;
    }
    case Do::kRemoveSandbox: {
      api::RemovePodSandboxRequest request;
      request.set_pod_sandbox_id(action.id);
      ask<api::RemovePodSandboxResponse>(request, kSandboxDeadline, plain);
      return;
    }
    case Do::kTearDown:
      context_.volumes.tear_down(pod_->metadata().uid(), [this, done, alive = std::weak_ptr(alive_)](Result<> result) {
        if (alive.expired()) return;
        // An orphan's class is not known any more: each tier is tried, and what is not there is gone.
        for (const auto* tier : {"", "/besteffort", "/burstable"}) {
          const std::string& uid = pod_->metadata().uid();
          if (result) result = context_.cgroups.remove(context_.node.cgroup_prefix + "/kubepods" + tier + "/pod" + uid);
        }
        if (result) result = context_.files.remove_folder(log_directory(context_.node, *pod_));
        history_.torn_down = result.has_value();
        done(std::move(result));
      });
      return;
  }
}

void Worker::create_sandbox(const Action& action, Next done) {
  if (auto made = context_.cgroups.create(cgroup_parent(context_.node, *pod_)); !made) {
    failed(kSandboxKey, "FailedCreatePodSandBox", made.error());
    return done(std::move(made));
  }
  context_.starts.enter([this, action, done, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return context_.starts.leave();
    api::RunPodSandboxRequest request;
    *request.mutable_config() = sandbox_config(context_.node, *pod_, action.attempt);
    context_.runtime.call(
        context_.loop, std::move(request), kSandboxDeadline,
        [this, action, done, alive, &starts = context_.starts](Result<api::RunPodSandboxResponse> result) {
          starts.leave();
          if (alive.expired()) return;
          if (!result) {
            failed(kSandboxKey, "FailedCreatePodSandBox", result.error());
            // An earlier call of ours may still be at work on that name: a later look finds what it
            // made. Only when nothing comes of it is the name given up.
            const bool reserved = result.error().what.find("is reserved") != std::string::npos;
            if (reserved && history_.failures[kSandboxKey].count > 1) {
              history_.next_attempt = action.attempt + 1;
            }
            return done(std::unexpected(result.error()));
          }
          history_.failures.erase(kSandboxKey);
          done({});
        });
  });
}

// Pull policy as kubelet reads it, with its reasons.
void Worker::find_image(const k8s::Container& container, std::function<void(Result<std::string>)> done) {
  if (container.imagepullpolicy() == "Always") return pull(container, std::move(done));
  api::ImageStatusRequest request;
  request.mutable_image()->set_image(container.image());
  ask<api::ImageStatusResponse>(request, kCallDeadline, [this, container, done](auto result) {
    if (!result) {
      failed(container.name(), result.error().code == Code::kInvalid ? "InvalidImageName" : "ImageInspectError",
             result.error());
      return done(std::unexpected(result.error()));
    }
    if (result->has_image() && !result->image().id().empty()) return done(result->image().id());
    if (container.imagepullpolicy() != "Never") return pull(container, done);
    Result<std::string> none =
        fail(Code::kNotFound, "Container image \"{}\" is not present with pull policy of Never", container.image());
    failed(container.name(), "ErrImageNeverPull", none.error());
    done(std::move(none));
  });
}

void Worker::pull(const k8s::Container& container, std::function<void(Result<std::string>)> done) {
  context_.pulls.enter([this, container, done, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return context_.pulls.leave();
    api::PullImageRequest request;
    request.mutable_image()->set_image(container.image());
    *request.mutable_sandbox_config() = sandbox_config(context_.node, *pod_, 0);
    context_.runtime.call(
        context_.loop, std::move(request), kPullDeadline,
        [this, container, done, alive, &pulls = context_.pulls](Result<api::PullImageResponse> result) {
          pulls.leave();
          if (alive.expired()) return;
          if (!result) {
            const bool again = history_.failures.contains(container.name());
            failed(container.name(), again ? "ImagePullBackOff" : "ErrImagePull", result.error());
            return done(std::unexpected(result.error()));
          }
          done(result->image_ref());
        });
  });
}

void Worker::create_container(const Action& action, const PodRuntimeView& view, Next done) {
  const k8s::Container* container = find_container(pod_->spec(), action.name);
  const SandboxView* sandbox = view.sandbox();
  if (container == nullptr || sandbox == nullptr) {
    return done(fail(Code::kConflict, "container {}: the pod changed", action.name));
  }
  const auto stop = [this, done, name = action.name](const char* reason, const Error& error) {
    failed(name, reason, error);
    done(std::unexpected(error));
  };
  const auto& ips = pod_->spec().hostnetwork() ? context_.node_ips : sandbox->ips;
  auto env = container_env({*pod_, context_.config_map, context_.secret, ips, context_.node_ips, context_.node_name},
                           *container);
  if (!env) return stop("CreateContainerConfigError", env.error());
  const std::string& uid = pod_->metadata().uid();
  for (const auto& [path, text] : {std::pair{hosts_path(context_.node, uid), hosts_file(*pod_, ips)},
                                   {message_path(context_.node, uid, action.name, action.attempt), std::string()}}) {
    if (auto written = context_.files.write(path, text); !written) {
      return stop("CreateContainerConfigError", written.error());
    }
  }
  // kubelet's task, not the runtime's: the folder that the container's log goes to.
  if (auto made = context_.files.make_folder(log_directory(context_.node, *pod_) + "/" + action.name); !made) {
    return stop("CreateContainerConfigError", made.error());
  }
  find_image(*container, [this, action, done, stop, spec = *container, env = std::move(*env), sandbox_id = sandbox->id,
                          attempt = sandbox->attempt](Result<std::string> image) {
    if (!image) return done(std::unexpected(image.error()));
    context_.volumes.mount_paths(*pod_, action.name, [=, this, alive = std::weak_ptr(alive_)](auto paths) {
      if (alive.expired()) return;
      if (!paths) return stop("CreateContainerConfigError", paths.error());
      auto config = container_config({context_.node, *pod_, spec, action.attempt, action.streak, *image, env, *paths});
      if (!config) return stop("CreateContainerConfigError", config.error());
      api::CreateContainerRequest request;
      request.set_pod_sandbox_id(sandbox_id);
      *request.mutable_config() = std::move(*config);
      *request.mutable_sandbox_config() = sandbox_config(context_.node, *pod_, attempt);
      ask<api::CreateContainerResponse>(request, kSandboxDeadline, [this, action, done, stop](auto made) {
        if (!made) return stop("CreateContainerError", made.error());
        run({.what = Do::kStartContainer, .name = action.name, .id = made->container_id()}, {}, done);
      });
    });
  });
}

}  // namespace fairlead::pods
